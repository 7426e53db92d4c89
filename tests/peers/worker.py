# gear's worker.
import sys
import gear

worker = gear.Worker("worker")
for server in sys.argv[1].split(","):
    host, port = server.rsplit(":", 1)
    worker.addServer(host, int(port))
for name in ("reverse", "fail", "throw", "updates"):
    worker.registerFunction(name)
while True:
    job = worker.getJob()
    if job.name == "reverse":
        job.sendWorkComplete(job.arguments[::-1])
    elif job.name == "fail":
        job.sendWorkFail()
    elif job.name == "throw":
        job.sendWorkException(b"broken")
    else:
        job.sendWorkStatus(1, 2)
        job.sendWorkData(b"part")
        job.sendWorkWarning(b"careful")
        job.sendWorkComplete(b"end")
