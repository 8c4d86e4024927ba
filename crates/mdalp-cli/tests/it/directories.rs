//! Directories that are none of a server's, or of two.

use crate::support::{Net, Server, mdalp, payload, run, text};
use std::fs;
use std::path::Path;

/// A data directory with a transaction in it, of a receiver that has ended.
fn data(net: &Net, host: u8, name: &str) -> String {
    let dir = net.path(name).to_str().unwrap().to_owned();
    let ip = net.ip(host);
    let _server = Server::start(&["receiver", "--listen", &ip, "--data", &dir].map(str::to_owned));
    dir
}

/// What each command that reads says of a directory: the same, and with exit status 9.
fn refusal(net: &Net, dir: &Path) -> String {
    let (file, dir) = (net.file("payload", &payload(100)), dir.to_str().unwrap());
    let commands: [&[&str]; 5] = [
        &["ls"],
        &["show", "77"],
        &["get", "77", "-o", "-"],
        &["verify", &file, "77"],
        &["rm", "77"],
    ];
    let mut said = Vec::new();
    for command in commands {
        let ended = run(mdalp(command).args(["--data", dir]));
        assert_eq!(ended.status.code(), Some(9), "{command:?}: {}", text(&ended.stderr));
        assert!(ended.stdout.is_empty(), "{command:?}");
        said.push(text(&ended.stderr));
    }
    said.dedup();
    let [said] = &said[..] else { panic!("{said:?}") };
    said.clone()
}

#[test]
fn t23_a_directory_that_no_server_wrote_to_is_no_empty_one() {
    let net = Net::new();
    let empty = net.path("empty");
    fs::create_dir(&empty).unwrap();
    assert!(refusal(&net, &empty).contains("no server ever wrote here: it is empty"));
    fs::write(empty.join("letter"), "").unwrap();
    let said = refusal(&net, &empty);
    assert!(said.contains("it has \"letter\", but no segment"), "{said}");
    assert!(said.contains("name the directory that mdalp serve"), "{said}");
    let checked = run(mdalp(&["verify", "--data"]).arg(&empty));
    assert_eq!(checked.status.code(), Some(9));
}

#[test]
fn t23_the_parent_of_data_directories_names_them() {
    let net = Net::new();
    let (a, b) = (data(&net, 2, "a"), data(&net, 3, "b"));
    let said = refusal(&net, net.dir.path());
    assert!(said.contains(&format!("--data {a} --data {b}")), "{said}");
}

#[test]
fn t23_files_of_two_receivers_in_one_directory_are_not_read_as_one() {
    let net = Net::new();
    let (a, b) = (data(&net, 2, "a"), data(&net, 3, "b"));
    let (a, b) = (Path::new(&a), Path::new(&b));
    fs::copy(b.join("0000000001.seg"), a.join("0000000003.seg")).unwrap();
    fs::copy(b.join("0000000001.seg"), a.join("0000000002.seg")).unwrap();
    let said = refusal(&net, a);
    assert!(said.contains("files of several stores are mixed"), "{said}");
}

#[test]
fn t27_a_server_takes_no_directory_that_belongs_to_something_else() {
    let net = Net::new();
    let dir = net.data();
    fs::create_dir(&dir).unwrap();
    fs::write(net.path("data/thesis.tex"), "").unwrap();
    let ended = run(&mut mdalp(&["receiver", "--listen", &net.ip(2), "--data", &dir]));
    assert_eq!(ended.status.code(), Some(9));
    let said = text(&ended.stderr);
    assert!(said.contains("it has \"thesis.tex\"") && said.contains("--data DIR"), "{said}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing was written");
    // An empty one is as good as a new one, and one's own stays one's own whatever is beside.
    fs::remove_file(net.path("data/thesis.tex")).unwrap();
    data(&net, 2, "data");
    fs::write(net.path("data/notes"), "").unwrap();
    data(&net, 2, "data");
}

#[test]
fn t12_verify_says_that_the_file_comes_first() {
    let net = Net::new();
    let file = net.file("payload", &payload(100));
    let ended = run(mdalp(&["verify", "77", &file]).current_dir(net.dir.path()));
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    assert!(said.contains(&format!("the file comes first: mdalp verify {file} 77")), "{said}");
}
