# Perl's Gearman::Worker, over TCP, or over its standard input and output if the server has started it.
use strict;
use warnings;
use Gearman::Worker;

my $worker = Gearman::Worker->new(@ARGV ? (job_servers => [split /,/, $ARGV[0]]) : ());
$worker->register_function(reverse => sub { scalar reverse $_[0]->arg });
$worker->register_function(fail => sub { undef });
$worker->register_function(throw => sub { $worker->send_work_exception($_[0], "broken"); undef });
$worker->register_function(dies => sub { die "broken\n" });
$worker->register_function(
    updates => sub {
        my $job = shift;
        $job->set_status(1, 2);
        $worker->send_work_data($job, "part");
        $worker->send_work_warning($job, "careful");
        return "end";
    }
);
$worker->work while 1;
