<?php
// PHP's GearmanWorker.
$worker = new GearmanWorker();
$worker->addServers($argv[1]);
$worker->addFunction("reverse", fn($job) => strrev($job->workload()));
$worker->addFunction("fail", function ($job) { $job->sendFail(); });
$worker->addFunction("throw", function ($job) { $job->sendException("broken"); });
$worker->addFunction("updates", function ($job) {
    $job->sendStatus(1, 2);
    $job->sendData("part");
    $job->sendWarning("careful");
    return "end";
});
// A job that fails is no reason to end.
while (@$worker->work() || !in_array($worker->returnCode(), [GEARMAN_COULD_NOT_CONNECT, GEARMAN_LOST_CONNECTION]));
fwrite(STDERR, $worker->error() . "\n");
