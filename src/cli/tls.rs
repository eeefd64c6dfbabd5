//! `srm-mirror tls`: certificates for names that lead to the mirror.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand};

use super::print;

mod authority;

pub(super) use authority::InitError;

const EXAMPLES: &str = "\
Writes into DIR a private authority (ca.pem, ca.key) and a certificate for the names (NAME.pem, NAME.key, after the
first name). Keys are readable by their owner only. An authority that DIR has already issues the certificate: clients
that trust it need nothing new. An authority signs for the names of its making only (X.509 name constraints), so that
its key, if it is stolen, opens nothing else; other names need an authority of their own.

Examples:
  srm-mirror tls init --name api.devsapp.cn --name registry.devsapp.cn --dir /etc/srm-mirror/tls
  srm-mirror tls init --name api.devsapp.cn --dir /etc/srm-mirror/tls --force     renews the certificate
  srm-mirror tls init --name mirror.example.com --name 192.0.2.7 --days 90";

/// Make certificates for the TLS listener
#[derive(Debug, Args)]
pub(super) struct Tls {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a private authority and a certificate for names that lead to the mirror
    Init(Init),
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Init {
    /// Host name or IP address the certificate is for; can be repeated
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Where the files are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How long the certificate is valid; the authority is valid for ten years
    #[arg(long, value_name = "N", default_value_t = 825, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// Replace a certificate that is there, and never the authority
    #[arg(long)]
    force: bool,
    /// Replace the authority too; every client must trust the new one
    #[arg(long)]
    new_ca: bool,
}

impl Tls {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let Action::Init(init) = self.action;
        let wanted = authority::Wanted {
            names: init.names,
            days: init.days,
            force: init.force || init.new_ca,
            new_ca: init.new_ca,
        };
        let made = authority::init(&init.dir, &wanted)?;
        print(&report(&made));
        Ok(0)
    }
}

/// What a person does next.
fn report(made: &authority::Made) -> String {
    let mut text = String::new();
    let ca = made.ca.display();
    let cert = made.cert.display();
    let key = made.key.display();
    let verb = if made.new_ca { "made" } else { "kept" };
    let names = made.names.join(", ");
    let _ = writeln!(text, "authority    {ca} ({verb})");
    let _ = writeln!(text, "certificate  {cert} for {names}, valid until {}", made.until);
    let _ = writeln!(text, "key          {key}");
    let _ = write!(
        text,
        "
In the mirror's configuration:

  [server.tls]
  listen = [\"0.0.0.0:443\"]
  certificates = [{{ cert_file = {}, key_file = {} }}]

A client trusts it, and nothing that it did not trust before, with:

  export NODE_EXTRA_CA_CERTS={ca}     # s and everything else on Node
  curl --cacert {ca} https://{}/readyz
  export REQUESTS_CA_BUNDLE={ca}      # PyGithub; this one replaces the system's list

The whole machine trusts it after, as root:

  cp {ca} /usr/local/share/ca-certificates/srm-mirror.crt && update-ca-certificates       # Debian, Ubuntu
  cp {ca} /etc/pki/ca-trust/source/anchors/srm-mirror.pem && update-ca-trust              # Fedora, RHEL

Give clients ca.pem only; ca.key can vouch for these names to all who trust it.
",
        toml::Value::from(cert.to_string()),
        toml::Value::from(key.to_string()),
        made.names.first().map_or("mirror", String::as_str),
    );
    text
}
