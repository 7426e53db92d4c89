//! Perl's client and worker over TLS. Debian's C programs are built without it.

use super::*;
use std::process::{Child, Command, Stdio};

/// Files that Perl reads.
struct Files(std::path::PathBuf);

impl Files {
    fn new(authority: &Authority, identity: &Identity) -> Files {
        let folder = std::env::temp_dir().join(format!("layshaft-tls-perl-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("ca", &authority.pem), ("chain", &identity.chain), ("key", &identity.key)] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Files(folder)
    }

    /// What Perl is told of the server.
    fn options(&self, server: &Server) -> String {
        let (folder, port) = (self.0.display(), server.addresses()[0].port());
        format!(
            "{{host => '127.0.0.1', port => {port}, use_ssl => 1, ca_file => '{folder}/ca', \
             cert_file => '{folder}/chain', key_file => '{folder}/key'}}"
        )
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn perl(script: &str) -> Child {
    let mut command = Command::new("perl");
    command.args(["-e", script]).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().expect("perl can be started")
}

#[test]
fn gw_10_perl_over_tls() {
    let authority = Authority::new();
    let server = server(tls(&authority.sign("127.0.0.1")).client_ca_pem(authority.pem.as_str()));
    let files = Files::new(&authority, &authority.sign("perl"));
    let options = files.options(&server);
    let mut worker = perl(&format!(
        "use Gearman::Worker; my $w = Gearman::Worker->new(job_servers => [{options}]); \
         $w->register_function(reverse => sub {{ scalar reverse $_[0]->arg }}); $w->work while 1;"
    ));
    let client = perl(&format!(
        "use Gearman::Client; my $c = Gearman::Client->new(job_servers => [{options}]); \
         for (1, 10, 100_000, 3_000_000) {{ my $r = $c->do_task(reverse => 'ab' x $_); \
         print ref $r && $$r eq 'ba' x $_ ? 'right ' : 'wrong ' }}"
    ));
    let said = client.wait_with_output().unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "right right right right ");
    assert_eq!(server.status().counters.tls_failed, 0);
}
