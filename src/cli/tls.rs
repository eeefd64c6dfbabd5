//! `srm-mirror tls`: issues certificates for the host names of a mirror.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::print;

mod authority;

use authority::{CertificateRequest, IssuedCertificate};

pub(super) use authority::TlsInitError;

const TLS_INIT_HELP: &str = "\
Writes a private certificate authority (ca.pem, ca.key) and a certificate for the names (NAME.pem, NAME.key, called
after the first name) into DIR. Only the owner can read the keys. If DIR has an authority already, that one signs the
certificate, and clients that trust it need no change. An authority can sign only for the names that it was made for
(X.509 name constraints), so a stolen ca.key is of no use for other names; other names need another authority.

Examples:
  srm-mirror tls init --name api.devsapp.cn --name registry.devsapp.cn --dir /etc/srm-mirror/tls
  srm-mirror tls init --name api.devsapp.cn --dir /etc/srm-mirror/tls --force     # renew
  srm-mirror tls init --name mirror.example.com --name 192.0.2.7 --days 90";

/// Issue certificates for the TLS listeners
#[derive(Debug, Args)]
pub(super) struct TlsCommand {
    #[command(subcommand)]
    action: TlsAction,
}

#[derive(Debug, Subcommand)]
enum TlsAction {
    /// Write a private certificate authority and a certificate for the mirror's host names
    Init(TlsInitArgs),
}

#[derive(Debug, Args)]
#[command(after_help = TLS_INIT_HELP)]
struct TlsInitArgs {
    /// Host name or IP address that the certificate is for; can be repeated
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Directory of the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Days that the certificate is valid; an authority is valid for ten years
    #[arg(long, value_name = "N", default_value_t = 825, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// Replace an existing certificate, but not the authority
    #[arg(long)]
    force: bool,
    /// Replace the authority too; every client must then trust the new one
    #[arg(long)]
    new_ca: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TlsCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let TlsAction::Init(args) = self.action;
        let request = CertificateRequest {
            names: args.names,
            days: args.days,
            force: args.force || args.new_ca,
            new_ca: args.new_ca,
        };
        let issued = authority::init(&args.dir, &request)?;
        if args.json {
            let IssuedCertificate { ca, cert, key, names, until, new_ca } = &issued;
            let value = json!({
                "ca_file": ca, "new_ca": new_ca, "cert_file": cert, "key_file": key, "names": names,
                "until": until.to_string(),
            });
            print(&format!("{value}\n"));
        } else {
            print(&report(&issued));
        }
        Ok(0)
    }
}

/// The files that were written, and the next steps.
fn report(issued: &IssuedCertificate) -> String {
    let mut text = String::new();
    let ca = issued.ca.display();
    let cert = issued.cert.display();
    let key = issued.key.display();
    let verb = if issued.new_ca { "made" } else { "kept" };
    let names = issued.names.join(", ");
    let _ = writeln!(text, "authority    {ca} ({verb})");
    let _ = writeln!(text, "certificate  {cert} for {names}, valid until {}", issued.until);
    let _ = writeln!(text, "key          {key}");
    let _ = write!(
        text,
        "
In the mirror's configuration:

  [server.tls]
  listen = [\"0.0.0.0:443\"]
  certificates = [{{ cert_file = {}, key_file = {} }}]

A client trusts this authority with:

  export NODE_EXTRA_CA_CERTS={ca}     # s and other Node programs
  curl --cacert {ca} https://{}/readyz
  export REQUESTS_CA_BUNDLE={ca}      # PyGithub; replaces the system's authorities

The whole machine trusts it after (as root):

  cp {ca} /usr/local/share/ca-certificates/srm-mirror.crt && update-ca-certificates       # Debian, Ubuntu
  cp {ca} /etc/pki/ca-trust/source/anchors/srm-mirror.pem && update-ca-trust              # Fedora, RHEL

Give clients ca.pem only: with ca.key anyone can sign certificates for these names.
",
        toml::Value::from(cert.to_string()),
        toml::Value::from(key.to_string()),
        issued.names.first().map_or("mirror", String::as_str),
    );
    text
}
