//! Probes of receivers in virtual time.

use super::*;
use crate::ids::Nonce;
use crate::wire::encode_probe_reply;

const CAPS: &str = "crc record window=32 chunk=1200";

/// Three receivers that answer probes, or do not.
struct Probed {
    world: World,
    up: [bool; 3],
    caps: [&'static str; 3],
}

impl Probed {
    fn new(config: Config) -> Self {
        let mut world = World::new(Config { probe: true, ..config });
        world.orchestrator.handle_timeout(world.now);
        Self { world, up: [true; 3], caps: [CAPS; 3] }
    }

    fn three() -> Self {
        Self::new(Config::new(entries(3, "R", "")))
    }

    /// Has the probes answered that wait; how many there were.
    fn answer(&mut self) -> usize {
        let mut asked = 0;
        while let Some(Probe { to, datagram }) = self.world.orchestrator.poll_probe() {
            asked += 1;
            let Ok(Message::Probe { nonce }) = decode(&datagram) else { panic!("{datagram:?}") };
            let SocketAddr::V4(v4) = to else { panic!("{to}") };
            let index = usize::from(v4.ip().octets()[3]) - 1;
            if self.up[index] {
                let mut reply = Vec::new();
                encode_probe_reply(&mut reply, nonce, Capabilities::parse(self.caps[index]));
                assert!(reply.len() <= datagram.len(), "no answer is longer than its question");
                self.world.orchestrator.handle_datagram(self.world.now, to, &reply);
            }
        }
        asked
    }

    fn seconds(&mut self, seconds: u32) -> &mut Self {
        for _ in 0..seconds {
            self.answer();
            self.world.wait(SECOND);
        }
        self.answer();
        self.world.wait(SEARCH_INTERVAL);
        self
    }

    /// The list that a client gets at once; `None` if it has to wait.
    fn list(&mut self, client: u16) -> Option<Vec<Entry>> {
        let sent = self.world.intent(&format!("198.51.{client}.7:40000"));
        sent.first().map(listed)
    }

    fn names(&mut self, client: u16) -> String {
        let list = self.list(client).unwrap_or_default();
        list.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// What happened to receivers.
    fn told(&mut self) -> Vec<Event> {
        let mut events = self.world.events();
        events.retain(|event| !matches!(event, Event::Queued { .. } | Event::Assigned { .. }));
        events
    }
}

fn listed(sent: &Transmit) -> Vec<Entry> {
    let Ok(Message::Assignment { list, .. }) = decode(&sent.datagram) else { panic!("{sent:?}") };
    parse(list).unwrap()
}

fn answers(index: u16, back: bool) -> Event {
    Event::ReceiverAnswers { index, caps: Capabilities::parse(CAPS), back }
}

#[test]
fn t4_what_receivers_say_that_they_speak_is_handed_out() {
    let mut probed = Probed::three();
    probed.caps[1] = "crc window=8 port=9999";
    assert_eq!(probed.answer(), 3, "the first round goes out at once");
    let list = probed.list(1).expect("nobody waits once all have answered");
    let caps: Vec<_> = list.iter().map(|entry| entry.caps.to_string()).collect();
    assert_eq!(caps, [CAPS, "crc window=8", CAPS], "the port is the one that was typed");
    let expected = Event::ReceiverAnswers { index: 1, caps: list[1].caps, back: false };
    assert_eq!(probed.told(), [answers(0, false), expected, answers(2, false)]);
}

#[test]
fn intents_wait_for_the_first_round_and_for_a_second_at_most() {
    let mut probed = Probed::three();
    probed.up = [true, true, false];
    assert_eq!(probed.list(1), None);
    probed.answer();
    assert_eq!(probed.world.wait(Duration::from_millis(999)).sent(), []);
    let sent = probed.world.wait(Duration::from_millis(1)).sent();
    assert_eq!(listed(&sent[0]).len(), 2);
    assert_eq!(probed.world.wait(SECOND).sent(), [], "once");
}

#[test]
fn a_list_of_classic_receivers_is_handed_out_as_typed() {
    let mut probed = Probed::three();
    probed.up = [false; 3];
    probed.seconds(10);
    let list = probed.list(1).expect("handed out");
    assert!(list.len() == 3 && list.iter().all(|entry| entry.caps.is_classic()));
    assert_eq!(probed.told(), [Event::NoReceiverAnswers], "said once");
}

#[test]
fn t5_a_receiver_that_misses_three_probes_is_not_handed_out_until_it_is_back() {
    let mut probed = Probed::three();
    assert_eq!(probed.seconds(2).names(1), "R1 R2 R3");
    probed.told();
    probed.up[1] = false;
    assert_eq!(probed.seconds(2).names(2), "R1 R2 R3", "two may be lost on the way");
    assert_eq!(probed.seconds(2).names(3), "R1 R3");
    assert_eq!(probed.told(), [Event::ReceiverGone { index: 1 }]);
    probed.up[1] = true;
    assert_eq!(probed.seconds(1).names(4), "R1 R2 R3");
    assert_eq!(probed.told(), [answers(1, true)]);
}

#[test]
fn t5_a_receiver_that_never_answered_is_not_handed_out_where_another_one_did() {
    let mut probed = Probed::three();
    probed.up[2] = false;
    assert_eq!(probed.seconds(5).names(1), "R1 R2");
    let silent = Event::ReceiverSilent { index: 2, handed_out: false };
    assert_eq!(probed.told(), [answers(0, false), answers(1, false), silent]);
    probed.up[2] = true;
    assert_eq!(probed.seconds(1).names(2), "R1 R2 R3", "it may start late");
}

#[test]
fn typed_capabilities_are_handed_out_unheard_and_never_exceeded() {
    let typed = entries(3, "R", "crc seal window=16");
    let mut probed = Probed::new(Config { typed: true, ..Config::new(typed) });
    probed.up[2] = false;
    let list = probed.seconds(5).list(1).unwrap();
    let caps: Vec<_> = list.iter().map(|entry| entry.caps.to_string()).collect();
    // T22: nobody waits for a confirmation that no receiver gives.
    assert_eq!(caps, ["crc window=16", "crc window=16", "crc seal window=16"]);
    let told = probed.told();
    assert_eq!(told.last(), Some(&Event::ReceiverSilent { index: 2, handed_out: true }));
}

#[test]
fn t26_nobody_is_handed_out_when_all_are_gone_and_intents_wait_for_the_first_that_is_back() {
    let mut probed = Probed::three();
    probed.seconds(2).told();
    probed.up = [false; 3];
    probed.seconds(4);
    assert_eq!(probed.told(), [0, 1, 2].map(|index| Event::ReceiverGone { index }));
    assert_eq!(probed.list(1), None);
    probed.up[2] = true;
    probed.seconds(1);
    let sent = probed.world.sent();
    assert_eq!(listed(&sent[0])[0].name, "R3");
}

#[test]
fn an_assignment_is_repeated_as_it_was_said_although_receivers_speak_more_by_now() {
    let mut probed = Probed::three();
    probed.up = [false; 3];
    probed.seconds(2);
    let first = probed.world.intent(CLIENT);
    probed.up = [true; 3];
    probed.seconds(1);
    assert_eq!(probed.world.intent(CLIENT), first);
    assert!(!probed.list(1).unwrap()[0].caps.is_classic());
}

#[test]
fn a_receiver_that_speaks_something_else_from_now_on_is_named() {
    let mut probed = Probed::three();
    probed.seconds(2).told();
    probed.caps[2] = "";
    probed.seconds(2);
    let caps = Capabilities::default();
    let event = Event::ReceiverAnswers { index: 2, caps, back: false };
    assert_eq!(probed.told(), [event], "once");
    assert!(probed.list(1).unwrap()[2].caps.is_classic());
}

#[test]
fn only_an_answer_from_where_the_question_went_counts_and_once() {
    let mut probed = Probed::three();
    let probe = probed.world.orchestrator.poll_probe().unwrap();
    let Ok(Message::Probe { nonce }) = decode(&probe.datagram) else { panic!() };
    let reply = |nonce| {
        let mut reply = Vec::new();
        encode_probe_reply(&mut reply, nonce, Capabilities::default());
        reply
    };
    for (from, nonce) in
        [("10.0.0.2:4650", nonce), ("10.0.0.1:4651", nonce), ("10.0.0.1:4650", Nonce(77))]
    {
        probed.world.send(from, &reply(nonce));
    }
    assert_eq!(probed.told(), []);
    for _ in 0..2 {
        probed.world.send("10.0.0.1:4650", &reply(nonce));
    }
    assert_eq!(probed.told().len(), 1);
    assert_eq!(probed.world.count("drop_unexpected"), 4);
}

#[test]
fn a_receiver_that_answers_two_seconds_late_is_up() {
    let mut probed = Probed::three();
    let mut late = std::collections::VecDeque::new();
    for _ in 0..8 {
        while let Some(probe) = probed.world.orchestrator.poll_probe() {
            late.push_back((probed.world.now + 2 * SECOND, probe));
        }
        probed.world.wait(SECOND / 2);
        while late.front().is_some_and(|(at, _)| *at <= probed.world.now) {
            let (_, Probe { to, datagram }) = late.pop_front().unwrap();
            let Ok(Message::Probe { nonce }) = decode(&datagram) else { panic!() };
            let mut reply = Vec::new();
            encode_probe_reply(&mut reply, nonce, Capabilities::default());
            probed.world.orchestrator.handle_datagram(probed.world.now, to, &reply);
        }
    }
    probed.told();
    assert_eq!(probed.names(1), "R1 R2 R3");
}

#[test]
fn receivers_in_the_same_process_are_not_asked() {
    let mut world = World::three();
    world.wait(10 * SECOND);
    assert_eq!(world.orchestrator.poll_probe(), None);
}
