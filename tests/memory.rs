//! What parsed documents weigh in the caches is what they take in memory, for hostile shapes, too. Alone in its process:
//! the resident memory of the process is the measure.

use std::fs;

use srm_mirror::{
    package::{Releases, Repository},
    value::memory_weight::{MemoryWeight, Weigh as _, json_estimate},
};

/// Bytes that each shape is repeated to take at least.
const SHAPE_BYTES: usize = 48 << 20;

fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn release(rest: &str) -> String {
    format!(
        r#"{{"tag_name":"v1","created_at":"2024-01-01T00:00:00Z","prerelease":false,"body":"","assets":[],"rest":{{{rest}}}}}"#
    )
}

fn list(release: &str, count: usize) -> String {
    format!(r#"{{"releases":[{}],"truncated":false}}"#, vec![release; count].join(","))
}

fn fields(count: usize, value: &str) -> String {
    (0..count).map(|number| format!(r#""f{number}":{value}"#)).collect::<Vec<_>>().join(",")
}

#[test]
fn parsed_documents_weigh_what_they_take_in_memory() {
    let nested = format!("{}{}", "[".repeat(60), "]".repeat(60));
    let asset = r#"{"name":"a.zip","size":1,"browser_download_url":"https://example.com/a.zip","rest":{}}"#;
    let notes = "notes ".repeat(1000);
    let assets = release("").replacen("[]", &format!("[{}]", vec![asset; 200].join(",")), 1);
    for (shape, json) in [
        ("an ordinary list", list(&release(&format!(r#""notes":"{notes}""#)), 1000)),
        ("releases of nothing", list(&release(""), 5000)),
        ("many fields", list(&release(&fields(2000, "1")), 20)),
        ("one field each", list(&release(r#""x":{"y":1}"#), 5000)),
        ("empty objects", list(&release(&format!(r#""x":[{}]"#, vec!["{}"; 3000].join(","))), 10)),
        ("short texts", list(&release(&format!(r#""x":[{}]"#, vec![r#""a""#; 3000].join(","))), 10)),
        ("small objects", list(&release(&format!(r#""x":[{}]"#, vec![r#"{"a":1}"#; 3000].join(","))), 10)),
        ("nested lists", list(&release(&format!(r#""x":[{}]"#, vec![nested.as_str(); 60].join(","))), 10)),
        ("assets", list(&assets, 20)),
    ] {
        let weigh = |list: &Releases| {
            let mut weight = MemoryWeight::unlimited();
            list.weigh(&mut weight);
            weight.bytes()
        };
        let one: Releases = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{shape}: {error}"));
        let one_weight = weigh(&one);
        assert!(one_weight as u64 <= json_estimate(json.as_bytes()), "{shape}: the estimate before parsing is lower");
        let count = SHAPE_BYTES / one_weight + 1;
        let before = resident();
        let kept: Vec<Releases> = (0..count).map(|_| serde_json::from_str(&json).expect("parsed before")).collect();
        let taken = resident() - before;
        let weight: usize = kept.iter().map(weigh).sum();
        println!("{shape}: {weight} of {taken} bytes");
        let close = weight * 3 / 2 >= taken && weight <= taken * 3 / 2;
        // Freed memory would hide what the next shape takes.
        std::mem::forget((one, kept));
        assert!(close, "{shape}: weighs {weight}, takes {taken}");
    }
}

#[test]
fn a_repository_weighs_its_unknown_fields() {
    let json =
        format!(r#"{{"full_name":"a/b","private":false,"default_branch":"main","rest":{{{}}}}}"#, fields(1000, "{}"));
    let repository: Repository = serde_json::from_str(&json).expect("a repository");
    let mut weight = MemoryWeight::unlimited();
    repository.weigh(&mut weight);
    assert!(weight.bytes() > 50_000, "{}", weight.bytes());
}
