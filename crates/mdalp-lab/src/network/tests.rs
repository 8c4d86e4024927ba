//! One client's network in virtual time.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn network(text: &str) -> Network {
    Network::new(&Scenario::parse(text, "test").expect("a good scenario"), 1)
}

fn drain(network: &mut Network) -> Vec<(Duration, Output)> {
    let mut seen = Vec::new();
    while let Some(now) = network.next_due() {
        while let Some(output) = network.poll(now) {
            seen.push((now, output));
        }
    }
    seen
}

fn arrivals(network: &mut Network) -> Vec<(u128, Place, Direction)> {
    let outputs = drain(network).into_iter();
    outputs.map(|(at, output)| (at.as_millis(), output.place, output.direction)).collect()
}

#[test]
fn each_place_has_its_own_delay_and_answers_come_back_the_same_way() {
    let mut network = network(
        "[orchestrator]\nrtt_ms = 40\n[[receiver]]\nname = 'a'\nrtt_ms = 100\n\
         [[receiver]]\nname = 'b'\nrtt_ms = 60\n",
    );
    for index in 0..3 {
        network.send_up(MS, Place::from_index(index), b"Type:0;".to_vec());
    }
    network.send_down(MS, Place::Receiver(0), b"anything".to_vec());
    assert_eq!(network.in_flight(), 4);
    let (a, b) = (Place::Receiver(0), Place::Receiver(1));
    assert_eq!(
        arrivals(&mut network),
        [
            (21, Place::Orchestrator, Direction::Up),
            (31, b, Direction::Up),
            (51, a, Direction::Up),
            (51, a, Direction::Down),
        ]
    );
}

#[test]
fn acks_leave_when_the_far_end_lets_them_go_and_nothing_else_waits() {
    let mut network = network(
        "[[receiver]]\nname = 'a'\nrtt_ms = 10\nacks = { delay_ms = 100, stop_at_seq = 42 }\n",
    );
    let a = Place::Receiver(0);
    network.send_down(MS, a, b"Type:3;TID:1;SEQ:41;".to_vec());
    network.send_down(MS, a, b"Type:5;TID:1;DATA:complete".to_vec());
    let fate = network.send_down(MS, a, b"Type:3;TID:1;SEQ:42;".to_vec());
    assert_eq!(fate.lost, Some("withheld by the receiver"));
    let at: Vec<_> = arrivals(&mut network).into_iter().map(|(at, ..)| at).collect();
    assert_eq!(at, [6, 106]);
    assert_eq!(network.counters(a).2.stopped, 1);
}

#[test]
fn an_assignment_queues_and_other_answers_of_the_orchestrator_do_not() {
    let mut network = network("[orchestrator]\nqueue_delay_ms = 500\n[[receiver]]\nname = 'a'\n");
    network.send_down(MS, Place::Orchestrator, b"Type:1;TID:1;DATA:[]".to_vec());
    network.send_down(MS, Place::Orchestrator, b"else".to_vec());
    let at: Vec<_> = arrivals(&mut network).into_iter().map(|(at, ..)| at).collect();
    assert_eq!(at, [1, 501]);
}

#[test]
fn a_loss_on_the_way_up_is_told_at_once_and_one_on_the_way_down_when_it_happens() {
    let mut network =
        network("[[receiver]]\nname = 'a'\nup = { lose = [1] }\ndown = { lose = [1] }\n");
    let a = Place::Receiver(0);
    let why = Some("loss named in the scenario");
    assert_eq!(network.send_up(MS, a, vec![1]).lost, why);
    assert_eq!(network.send_up(MS, a, vec![2]), Fate::default());
    assert_eq!(network.send_down(MS, a, vec![3]).lost, None);
    network.send_down(MS, a, vec![4]);
    let seen: Vec<_> = drain(&mut network).into_iter().map(|(_, o)| (o.bytes, o.lost)).collect();
    assert_eq!(seen, [(vec![3], why), (vec![2], None), (vec![4], None)]);
}

#[test]
fn a_fate_says_what_happened_to_the_datagram() {
    let mut network = network("[[receiver]]\nname = 'a'\nup = { duplicate = 1, truncate = 1 }\n");
    let fate = network.send_up(MS, Place::Receiver(0), b"hello".to_vec());
    assert!(fate.duplicated && fate.damaged && !fate.out_of_order);
    let outputs = drain(&mut network);
    assert_eq!(outputs.len(), 2);
    assert!(outputs.iter().all(|(_, output)| output.damaged && output.bytes.len() < 5));
}

#[test]
fn a_place_that_is_not_there_loses_everything() {
    let mut network = network("[[receiver]]\nname = 'a'\n");
    let there = Place::Receiver(7);
    assert!(network.send_up(MS, there, vec![1]).lost.is_some());
    assert!(network.send_down(MS, there, vec![1]).lost.is_some());
    assert_eq!(network.next_due(), None);
}
