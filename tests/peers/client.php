<?php
// PHP's GearmanClient: what every client of these tests does, a line for each.
$client = new GearmanClient();
$client->addServers($argv[1]);
$client->setTimeout(30000);
$heard = [];
$hear = function ($task) use (&$heard) { $heard[] = $task->data(); };
$client->setDataCallback($hear);
$client->setWarningCallback($hear);
$client->setCompleteCallback($hear);
$client->setExceptionCallback($hear);
$client->setFailCallback(function ($task) use (&$heard) { $heard[] = "failed"; });
$client->setStatusCallback(function ($task) use (&$heard) {
    $heard[] = $task->taskNumerator() . "/" . $task->taskDenominator();
});
$run = function ($function, $payload) use ($client, &$heard) {
    $heard = [];
    $client->addTask($function, $payload);
    $client->runTasks();
    return implode(" ", $heard);
};
// The context is for callbacks; plain calls need a client of their own.
$plain = new GearmanClient();
$plain->addServers($argv[1]);
$plain->setTimeout(30000);
echo "reverse ", $plain->doNormal("reverse", "abc"), "\n";
echo "empty ", $run("reverse", ""), "\n";
echo "fail ", $run("fail", "x"), "\n";
echo "throw ", $run("throw", "x"), "\n";
echo "updates ", $run("updates", "x"), "\n";
echo "high ", $plain->doHigh("reverse", "abc"), "\n";
echo "low ", $plain->doLow("reverse", "abc"), "\n";
$handle = $plain->doBackground("reverse", "abc");
while ($plain->jobStatus($handle)[0]);
echo "background done\n";
$heard = [];
$client->addTask("reverse", "abc", null, "-");
$client->addTask("reverse", "abc", null, "-");
$client->runTasks();
echo "unique ", implode(" ", $heard), "\n";
echo "large ", strlen($run("reverse", str_repeat("x", 1 << 20))), "\n";
