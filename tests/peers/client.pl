# Perl's Gearman::Client: what every client of these tests does, a line for each.
use strict;
use warnings;
use Gearman::Client;
use Gearman::Task;

$| = 1;
my $client = Gearman::Client->new(job_servers => [split /,/, $ARGV[0]], exceptions => 1);

# Runs one task: what was heard, in order.
sub heard {
    my ($function, $payload, %options) = @_;
    my @heard;
    my $set = $client->new_task_set;
    $set->add_task(
        $function => \$payload,
        {
            %options,
            on_status    => sub { push @heard, "$_[0]/$_[1]" },
            on_data      => sub { push @heard, ${ $_[0] } },
            on_warning   => sub { push @heard, ref $_[0] ? ${ $_[0] } : $_[0] },
            on_exception => sub { push @heard, $_[0] },
            on_fail      => sub { push @heard, "failed" },
            on_complete  => sub { push @heard, ${ $_[0] } },
        }
    );
    $set->wait;
    return join " ", @heard;
}

print "reverse ", heard("reverse", "abc"), "\n";
print "empty ", heard("reverse", ""), "\n";
print "fail ", heard("fail", "x"), "\n";
print "throw ", heard("throw", "x"), "\n";
print "updates ", heard("updates", "x"), "\n";
print "high ", heard("reverse", "abc", priority => "high"), "\n";
print "low ", heard("reverse", "abc", priority => "low"), "\n";

my $handle = $client->dispatch_background("reverse", \"abc", {});
1 while $client->get_status($handle)->known;
print "background done\n";

my @both;
my $set = $client->new_task_set;
for (1, 2) {
    $set->add_task("reverse", \"abc", { uniq => "-", on_complete => sub { push @both, ${ $_[0] } } });
}
$set->wait;
print "unique @both\n";
print "large ", length heard("reverse", "x" x (1 << 20)), "\n";
