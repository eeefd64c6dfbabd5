//! `srm-mirror tls`: issues certificates for the host names of a mirror, and for the nodes of a fleet.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::print;

mod authority;

use authority::{CertificatePurpose, CertificateRequest, IssuedCertificate, IssuedCertificates};

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

const TLS_NODES_HELP: &str = "\
Writes a private certificate authority (nodes-ca.pem, nodes-ca.key) and a certificate for each node (NAME.pem, NAME.key)
into DIR. NAME is the host of the node's address in fleet.nodes, without port and brackets: an IP address or a host name.
With fleet.discover it is the host of that, and one certificate is for all nodes. Only the owner can read the keys. If
DIR has such an authority already, that one signs the certificates, so nodes can be added and renewed without touching
the others. Anyone with nodes-ca.key can make a node, which reads every zip: keep it on none of them.

Examples:
  srm-mirror tls nodes --name 10.0.0.1 --name 10.0.0.2 --name 10.0.0.3 --dir nodes
  srm-mirror tls nodes --name 10.0.0.4 --dir nodes               # one more node
  srm-mirror tls nodes --name 10.0.0.1 --dir nodes --force       # renew";

/// Issue certificates for the TLS listeners, and for the nodes of a fleet
#[derive(Debug, Args)]
pub(super) struct TlsCommand {
    #[command(subcommand)]
    action: TlsAction,
}

#[derive(Debug, Subcommand)]
enum TlsAction {
    /// Write a private certificate authority and a certificate for the mirror's host names
    Init(TlsInitArgs),
    /// Write a private certificate authority and a certificate for each node of a fleet
    Nodes(TlsNodesArgs),
}

#[derive(Debug, Args)]
#[command(after_help = TLS_INIT_HELP)]
struct TlsInitArgs {
    /// Host name or IP address that the certificate is for; can be repeated
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    files: TlsFileArgs,
}

#[derive(Debug, Args)]
#[command(after_help = TLS_NODES_HELP)]
struct TlsNodesArgs {
    /// Host name or IP address of a node; can be repeated
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    files: TlsFileArgs,
}

#[derive(Debug, Args)]
struct TlsFileArgs {
    /// Directory of the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Days that a certificate is valid; an authority is valid for ten years
    #[arg(long, value_name = "N", default_value_t = 825, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// Replace existing certificates, but not the authority
    #[arg(long)]
    force: bool,
    /// Replace the authority too; every client (or node) must then trust the new one
    #[arg(long)]
    new_ca: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TlsCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let (purpose, names, files) = match self.action {
            TlsAction::Init(TlsInitArgs { names, files }) => (CertificatePurpose::Server, names, files),
            TlsAction::Nodes(TlsNodesArgs { names, files }) => (CertificatePurpose::Nodes, names, files),
        };
        let force = files.force || files.new_ca;
        let request = CertificateRequest { purpose, names, days: files.days, force, new_ca: files.new_ca };
        let issued = authority::init(&files.dir, &request)?;
        match (files.json, purpose) {
            (true, _) => print(&format!("{}\n", json_report(&issued, purpose))),
            (false, CertificatePurpose::Server) => print(&report(&issued)),
            (false, CertificatePurpose::Nodes) => print(&node_report(&issued)),
        }
        Ok(0)
    }
}

fn json_report(issued: &IssuedCertificates, purpose: CertificatePurpose) -> serde_json::Value {
    let IssuedCertificates { ca, certificates, until, new_ca } = issued;
    let until = until.to_string();
    let files = |IssuedCertificate { cert, key, names }: &IssuedCertificate| json!({"cert_file": cert, "key_file": key, "names": names});
    let mut value = match purpose {
        CertificatePurpose::Server => files(&certificates[0]),
        CertificatePurpose::Nodes => json!({"nodes": certificates.iter().map(files).collect::<Vec<_>>()}),
    };
    for (name, of_all) in [("ca_file", json!(ca)), ("new_ca", json!(new_ca)), ("until", json!(until))] {
        value[name] = of_all;
    }
    value
}

/// The files that were written.
fn files_report(issued: &IssuedCertificates) -> String {
    let mut text = String::new();
    let verb = if issued.new_ca { "made" } else { "kept" };
    let _ = writeln!(text, "authority    {} ({verb})", issued.ca.display());
    for IssuedCertificate { cert, key, names } in &issued.certificates {
        let names = names.join(", ");
        let _ = writeln!(text, "certificate  {} for {names}, valid until {}", cert.display(), issued.until);
        let _ = writeln!(text, "key          {}", key.display());
    }
    text
}

/// The files of nodes that were written, and the next steps.
fn node_report(issued: &IssuedCertificates) -> String {
    let mut text = files_report(issued);
    let ca = issued.ca.file_name().unwrap_or_default().display();
    let IssuedCertificate { cert, key, names } = &issued.certificates[0];
    let _ = write!(
        text,
        "
Copy the authority's certificate {ca}, and its own certificate and key, to each node, and nothing else. In the
configuration of {}, wherever they are there:

  [fleet]
  cert_file = \"/etc/srm-mirror/{}\"
  key_file = \"/etc/srm-mirror/{}\"
  ca_file = \"/etc/srm-mirror/{ca}\"
",
        names[0],
        cert.file_name().unwrap_or_default().display(),
        key.file_name().unwrap_or_default().display(),
    );
    text
}

/// The files that were written, and the next steps.
fn report(issued: &IssuedCertificates) -> String {
    let mut text = files_report(issued);
    let ca = issued.ca.display();
    let IssuedCertificate { cert, key, names } = &issued.certificates[0];
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
        toml::Value::from(cert.to_string_lossy().into_owned()),
        toml::Value::from(key.to_string_lossy().into_owned()),
        names[0],
    );
    text
}
