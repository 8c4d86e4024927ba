//! Binding, and the errors of it.

use crate::support::*;
use mdalp_server::{ConfigError, ReceiverSpec, ServerError, bind, open_store};
use mdalp_store::Durability;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;

#[test]
fn a_second_server_is_told_that_the_address_is_taken() {
    let first = bind(local(2), "receiver \"A\"").unwrap();
    let addr = first.local_addr().unwrap();
    let error = bind(addr, "receiver \"B\"").unwrap_err();
    assert!(matches!(error, ServerError::AddressInUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&addr.to_string()) && text.contains("receiver \"B\""), "{text}");
    assert!(text.contains("another process listens there"), "{text}");
}

#[test]
fn a_classic_client_may_have_the_wildcard_of_the_same_port() {
    let server = bind(local(2), "receiver").unwrap();
    let port = server.local_addr().unwrap().port();
    let client = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    client.set_reuse_address(true).unwrap();
    client.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
    // And what is sent to the server's address still reaches the server.
    server.set_nonblocking(false).unwrap();
    crate::support::client().send_to(b"x", server.local_addr().unwrap()).unwrap();
    assert_eq!(server.recv(&mut [0; 9]).unwrap(), 1);
}

#[test]
fn an_address_that_is_not_ours_is_explained() {
    let error = bind(([192, 0, 2, 1], 4650).into(), "orchestrator").unwrap_err();
    assert!(matches!(error, ServerError::AddressNotAvailable { .. }), "{error:?}");
    assert!(error.to_string().contains("192.0.2.1:4650 as orchestrator"), "{error}");
}

#[test]
fn a_data_directory_in_use_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open_store(dir.path(), Durability::Process).unwrap();
    let error = open_store(dir.path(), Durability::Process).err().unwrap().to_string();
    assert!(error.contains("in use by another server"), "{error}");
}

#[test]
fn receivers_are_checked_when_they_are_written_down() {
    let spec: ReceiverSpec = "2nd Receiver=127.0.0.4".parse().unwrap();
    assert_eq!((spec.name(), spec.addr()), ("2nd Receiver", ([127, 0, 0, 4], 4650).into()));
    assert_eq!(spec.entry().caps.to_string(), "crc record window=32 chunk=1200");
    let spec: ReceiverSpec = "A=[::1]:4651".parse().unwrap();
    assert_eq!(spec.entry().caps.port, Some(4651));
    assert_eq!(spec.entry().caps.to_string(), "port=4651 crc record window=32 chunk=1200");
    for (text, error) in [
        ("127.0.0.2", ConfigError::Syntax("127.0.0.2".into())),
        ("A=localhost", ConfigError::Syntax("A=localhost".into())),
        ("it's=127.0.0.2", ConfigError::Name("it's".into())),
        ("=127.0.0.2", ConfigError::Name(String::new())),
        ("A=0.0.0.0", ConfigError::Wildcard("A".into())),
        ("A=127.0.0.2:53", ConfigError::Port(53)),
    ] {
        assert_eq!(text.parse::<ReceiverSpec>(), Err(error));
    }
}
