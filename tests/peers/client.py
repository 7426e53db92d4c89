# gear's client: what every client of these tests does, a line for each. Data, warnings and results are one list to it.
import sys
import threading
import gear


class Client(gear.Client):
    def __init__(self):
        super().__init__("client")
        self.ended = threading.Condition()

    def _end(self, job):
        with self.ended:
            self.ended.notify_all()
        return job

    def handleWorkComplete(self, packet):
        return self._end(super().handleWorkComplete(packet))

    def handleWorkFail(self, packet):
        return self._end(super().handleWorkFail(packet))

    def handleWorkException(self, packet):
        return self._end(super().handleWorkException(packet))

    def handleStatusRes(self, packet):
        return self._end(super().handleStatusRes(packet))

    def wait(self, *jobs):
        with self.ended:
            assert self.ended.wait_for(lambda: all(job.complete for job in jobs), 30), "nothing came"


client = Client()
for server in sys.argv[1].split(","):
    host, port = server.rsplit(":", 1)
    client.addServer(host, int(port))
client.waitForServer()
client.setOption("exceptions")


def heard(name, payload, precedence=gear.PRECEDENCE_NORMAL):
    job = gear.Job(name, payload)
    client.submitJob(job, precedence=precedence)
    client.wait(job)
    if job.exception is not None:
        return job.exception.decode()
    if job.failure:
        return "failed"
    status = [job.numerator.decode() + "/" + job.denominator.decode()] if job.numerator else []
    return " ".join(status + [part.decode() for part in job.data])


print("reverse", heard("reverse", b"abc"))
print("empty", heard("reverse", b""))
print("fail", heard("fail", b"x"))
print("throw", heard("throw", b"x"))
print("updates", heard("updates", b"x"))
print("high", heard("reverse", b"abc", gear.PRECEDENCE_HIGH))
print("low", heard("reverse", b"abc", gear.PRECEDENCE_LOW))
job = gear.Job("reverse", b"abc")
client.submitJob(job, background=True)
job.known = True
while job.known:
    packet = gear.Packet(gear.constants.REQ, gear.constants.GET_STATUS, job.handle)
    job.known = None
    # It forgets background jobs, and asks about them nevertheless.
    job.connection.related_jobs[job.handle] = job
    client.sendPacket(packet, job.connection)
    with client.ended:
        assert client.ended.wait_for(lambda: job.known is not None, 30), "no status"
print("background done")
# One job is one handle to it: a second submit on the same connection would end a job that it has forgotten.
job = gear.Job("reverse", b"abc", unique=b"-")
client.submitJob(job)
client.wait(job)
print("unique", job.data[0].decode(), job.data[0].decode())
print("large", len(heard("reverse", b"x" * (1 << 20))))
client.shutdown()
