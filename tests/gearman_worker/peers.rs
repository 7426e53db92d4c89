//! With the servers and clients that are there already: gearmand, the Perl server, libgearman's command, Perl and PHP.

use super::common::{PATIENCE, engine, watchdog};
use super::fake::{Beside, SOON};
use super::{Answer, echo};
use layshaft::Engine;
use layshaft::gearman::worker::{Backoff, WorkerBuilder};
use layshaft::gearman::{Job, WorkError, Worker};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Instant;

/// A program that ends with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a port of its own.
struct Daemon {
    port: u16,
    is_perl: bool,
    _process: Killed,
}

impl Daemon {
    fn gearmand() -> Daemon {
        Daemon::gearmand_on(free_port())
    }

    fn gearmand_on(port: u16) -> Daemon {
        Daemon::start(port, |port| {
            let mut command = Command::new("/usr/sbin/gearmand");
            command.args(["-p", port, "-L", "127.0.0.1", "-l", "/dev/null", "-t", "1"]);
            command
        })
    }

    fn perl() -> Daemon {
        let server = Daemon::start(free_port(), |port| {
            let mut command = Command::new("/usr/bin/gearmand");
            command.args(["--port", port]);
            command
        });
        Daemon { is_perl: true, ..server }
    }

    fn start(port: u16, command: impl FnOnce(&str) -> Command) -> Daemon {
        let mut command = command(&port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Killed(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "{command:?} does not listen");
            thread::yield_now();
        }
        Daemon { port, is_perl: false, _process: process }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn output(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut to = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = thread::spawn(move || to.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    writer.join().unwrap().expect("it reads");
    output
}

/// A script's output, without errors.
fn script(program: &str, option: &str, text: &str, server: &Daemon) -> String {
    // The Perl client dies when, as the Perl server does it, a failure follows an exception that it was told.
    let exceptions = if server.is_perl { "0" } else { "1" };
    let mut command = Command::new(program);
    command.args([option, text]).arg(server.address()).env("EXCEPTIONS", exceptions);
    let output = output(command, b"");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program}");
    assert!(output.status.success(), "{program}: {:?}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The result of a job that libgearman's command submits.
fn gearman(server: &Daemon, function: &str, payload: &[u8]) -> Output {
    let mut command = Command::new("gearman");
    command.args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "-f", function]);
    output(command, payload)
}

fn worker_of(engine: &Engine, server: &Daemon) -> WorkerBuilder {
    let builder = Worker::builder(engine).server(server.address()).backoff(Backoff::always(SOON));
    builder
        .function("echo", echo)
        .function("steps", steps)
        .function("bad", bad)
        .function("zero", |_: &Job, _| Ok(b"0".to_vec()))
}

/// Tells all that can be told.
fn steps(job: &Job, payload: Vec<u8>) -> Answer {
    job.progress(3, 10);
    job.data(b"one");
    job.data(b"two");
    job.warning(b"careful");
    Ok(payload)
}

fn bad(_: &Job, payload: Vec<u8>) -> Answer {
    match payload.as_slice() {
        b"fail" => Err(WorkError::Fail),
        b"panic" => panic!("as asked"),
        _ => Err(WorkError::exception("no good")),
    }
}

#[test]
fn gw_06_gearman_gets_the_bytes_back() {
    let _dog = watchdog("results");
    let (engine, server) = (engine(2), Daemon::gearmand());
    let worker = Beside::run(worker_of(&engine, &server));
    for payload in [b"0".to_vec(), Vec::new(), vec![0; 1 << 20], (0..=255).collect()] {
        let output = gearman(&server, "echo", &payload);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout == payload, "{} bytes", payload.len());
    }
    assert_eq!(worker.stop().done, 4);
}

#[test]
fn a_client_that_wants_no_exceptions_hears_of_the_failure() {
    let _dog = watchdog("failures");
    let (engine, server) = (engine(2), Daemon::gearmand());
    let worker = Beside::run(worker_of(&engine, &server).exceptions(false));
    for payload in ["fail", "panic", "exception"] {
        let output = gearman(&server, "bad", payload.as_bytes());
        assert!(!output.status.success(), "{payload}: {output:?}");
    }
    assert_eq!(worker.stop().failed, 3);
}

const PERL: &str = r#"
    use Gearman::Client;
    my $c = Gearman::Client->new(job_servers => [$ARGV[0]], exceptions => $ENV{EXCEPTIONS});
    my $set = $c->new_task_set;
    my %told;
    for my $job (["steps", "end"], ["bad", "fail"], ["bad", "exception"], ["echo", ""], ["zero", ""]) {
        my ($f, $p) = @$job;
        my $add = sub { my $what = shift; sub { $told{"$f $p"} .= join ",", $what, map({ ref $_ ? $$_ : $_ } $what eq "fail" ? () : @_), ""; } };
        $set->add_task($f => \$p, { map({ ("on_$_" => $add->($_)) } qw(complete fail status data warning exception)) });
    }
    $set->wait(timeout => 20);
    print "$_: $told{$_}\n" for sort keys %told;
"#;

#[test]
fn gw_07_perl_clients_hear_everything() {
    let _dog = watchdog("updates");
    let (engine, server) = (engine(2), Daemon::gearmand());
    let worker = Beside::run(worker_of(&engine, &server));
    let told = script("perl", "-e", PERL, &server);
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            "bad exception: exception,no good,",
            "bad fail: fail,",
            "echo : complete,,",
            "steps end: status,3,10,data,one,data,two,warning,careful,complete,end,",
            "zero : complete,0,",
        ]
    );
    worker.stop();
}

/// It knows neither keys in grabs, nor data and warnings, nor that an exception ends a job.
#[test]
fn the_perl_server_is_served_too() {
    let _dog = watchdog("the Perl server");
    let (engine, server) = (engine(2), Daemon::perl());
    let worker = Beside::run(worker_of(&engine, &server));
    let told = script("perl", "-e", PERL, &server);
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            "bad exception: fail,",
            "bad fail: fail,",
            "echo : complete,,",
            "steps end: status,3,10,complete,end,",
            "zero : complete,0,",
        ]
    );
    worker.stop();
}

const PHP: &str = r#"
    $c = new GearmanClient();
    $c->addServers($argv[1]);
    $c->setTimeout(20000);
    $out = function ($what) { return function ($task) use ($what) { echo $what, ":", $task->data(), "\n"; }; };
    $c->setStatusCallback(function ($task) { echo "status:", $task->taskNumerator(), "/", $task->taskDenominator(), "\n"; });
    $c->setDataCallback($out("data"));
    $c->setWarningCallback($out("warning"));
    $c->setCompleteCallback($out("complete"));
    $c->setFailCallback(function ($task) { echo "fail\n"; });
    foreach ([["steps", "end"], ["bad", "fail"], ["echo", "0"]] as [$f, $p]) {
        $c->addTask($f, $p);
        $c->runTasks();
    }
"#;

#[test]
fn php_clients_hear_everything() {
    let _dog = watchdog("updates");
    let (engine, server) = (engine(2), Daemon::gearmand());
    let worker = Beside::run(worker_of(&engine, &server));
    let told = script("php", "-r", PHP, &server);
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        ["status:3/10", "data:one", "data:two", "warning:careful", "complete:end", "fail", "complete:0"]
    );
    worker.stop();
}

#[test]
fn gw_03_it_comes_back_after_a_restart_of_gearmand() {
    let _dog = watchdog("a restart");
    let engine = engine(2);
    let server = Daemon::gearmand();
    let worker = Beside::run(worker_of(&engine, &server));
    assert_eq!(gearman(&server, "echo", b"before").stdout, b"before");
    let port = server.port;
    drop(server);
    let server = Daemon::gearmand_on(port);
    assert_eq!(gearman(&server, "echo", b"after").stdout, b"after");
    worker.stop();
}

#[test]
fn gw_08_worker_prefixes_do_not_see_each_other() {
    let _dog = watchdog("prefixes");
    let (engine, server) = (engine(2), Daemon::gearmand());
    let builder = |prefix: &str| {
        let builder = Worker::builder(&engine).server(server.address()).prefix(prefix);
        let answer = prefix.as_bytes().to_vec();
        builder.function("who", move |_: &Job, _| Ok(answer.clone()))
    };
    let workers = [Beside::run(builder("one")), Beside::run(builder("two"))];
    for prefix in ["two", "one"] {
        let text = format!(
            "use Gearman::Client; my $c = Gearman::Client->new(job_servers => [$ARGV[0]], prefix => '{prefix}'); \
             print ${{$c->do_task('who', '')}};"
        );
        assert_eq!(script("perl", "-e", &text, &server), prefix);
    }
    assert_eq!(workers.map(|worker| worker.stop().done), [1, 1]);
}

/// Jobs of many clients at once, over two workers: each gets its own result.
#[test]
fn many_jobs_over_two_workers() {
    let _dog = watchdog("many jobs");
    let (engine, server) = (engine(4), Daemon::gearmand());
    let other = super::common::engine(4);
    let workers = [Beside::run(worker_of(&engine, &server)), Beside::run(worker_of(&other, &server))];
    let text = "use Gearman::Client; my $c = Gearman::Client->new(job_servers => [$ARGV[0]]); my $set = $c->new_task_set; \
                my $right = 0; for my $n (1..2000) { \
                $set->add_task(echo => $n, { on_complete => sub { $right += ${$_[0]} eq $n } }) } \
                $set->wait(timeout => 25); print $right;";
    assert_eq!(script("perl", "-e", text, &server), "2000");
    assert_eq!(workers.map(|worker| worker.stop().done).iter().sum::<u64>(), 2000);
}
