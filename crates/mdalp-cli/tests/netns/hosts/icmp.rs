//! Latencies that cannot be measured (F24).

use super::{hosts, shell};
use crate::support::{json_lines, payload, run, text};

pub(super) fn f24_hosts_that_answer_no_echo_get_equal_shares_and_everything() {
    let net = hosts();
    shell("ip netns exec far sysctl -q net.ipv4.icmp_echo_ignore_all=1");
    let _server = net.serve(&[]);
    let bytes = payload(3000);
    let file = net.file("payload", &bytes);
    let system = "/usr/sbin:/usr/bin:/sbin:/bin";
    // Nobody is permitted sockets for echoes, or all are; with the system's command, or without one.
    for (method, permitted, path) in
        [("auto", "1 0", system), ("auto", "1 0", "/nowhere"), ("icmp", "0 2147483647", "/nowhere")]
    {
        shell(&format!("echo '{permitted}' > /proc/sys/net/ipv4/ping_group_range"));
        let mut client = net.client(&file, &["--json", "--mode", "1", "--classic"]);
        let sent =
            run(client.env_remove("MDALP_PROBE").env("PATH", path).args(["--probe", method]));
        assert_eq!(sent.status.code(), Some(0), "{method}: {}", text(&sent.stderr));
        let end = json_lines(&sent.stdout).pop().unwrap();
        let receivers = end["receivers"].as_array().unwrap();
        assert!(receivers.iter().all(|receiver| receiver["bytes"] == 1000), "{end}");
        assert!(net.get(end["tid"].as_u64().unwrap()) == bytes);
    }
}
