//! Other ways to bring a payload to the far end: one TCP connection, TFTP as far as it matters here,
//! and the servers that all of them talk to.

use crate::wan::{ADDRESSES, Way, ip};
use mdalp_proto::wire::Capabilities;
use mdalp_server::{ReceiverSpec, ServeConfig, bind, bind_receivers, open_store, serve, stats};
use mdalp_store::Durability;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Our port, also for orchestrators and receivers without extensions.
const PORT: u16 = mdalp_proto::wire::PORT;
const TCP: u16 = 5001;
const TFTP: u16 = 5002;
/// TFTP's block.
const BLOCK: usize = 512;

/// Which of the far end's addresses: an orchestrator, and the three receivers right behind it.
pub(crate) const EXTENDED: u8 = 2;
/// The same without seals.
pub(crate) const UNSEALED: u8 = 6;
/// Without extensions.
pub(crate) const CLASSIC: u8 = 10;

/// The far end's process.
pub(crate) fn serve_all(way: Way, dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("here");
    io::stdin().read_line(&mut String::new())?;
    if way != Way::Loopback {
        ip("link set lo up")?;
        for n in EXTENDED..=ADDRESSES {
            ip(&format!("addr add {}/24 dev far0", way.addr(n)))?;
        }
        ip("link set far0 up mtu 1500 txqueuelen 10000")?;
    }
    let at = way.addr(EXTENDED);
    let listener = TcpListener::bind((at, TCP))?;
    thread::spawn(move || listener.incoming().flatten().try_for_each(tcp_serve));
    let socket = UdpSocket::bind((at, TFTP))?;
    thread::spawn(move || tftp_serve(&socket));
    let uftpd = uftpd(way, dir);
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(ended);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let extended = Capabilities {
            crc: true,
            seal: true,
            record: false,
            window: Some(256),
            chunk: Some(1200),
            port: None,
        };
        let unsealed = Capabilities { seal: false, ..extended };
        let classic = Capabilities::default();
        for (first, caps) in [(EXTENDED, extended), (UNSEALED, unsealed), (CLASSIC, classic)] {
            let socket = bind((way.addr(first), PORT).into(), "orchestrator")?;
            let specs: Result<Vec<_>, _> = (1..=3)
                .map(|n| {
                    let addr = SocketAddr::from((way.addr(first + n), PORT));
                    ReceiverSpec::with_caps(format!("R{n}"), addr, caps)
                })
                .collect();
            let (sockets, specs) = bind_receivers(&specs?)?;
            let store = open_store(&dir.join(first.to_string()), Durability::Process)?;
            let (publish, _) = stats::channel();
            let config = ServeConfig::new(specs);
            let never = std::future::pending();
            tokio::spawn(serve::run(socket, sockets, store, config, publish, never));
        }
        println!("ready");
        drop(end.await);
        Ok(())
    });
    if let Some(mut uftpd) = uftpd {
        uftpd.kill()?;
        uftpd.wait()?;
    }
    served
}

fn tcp_serve(mut stream: TcpStream) -> io::Result<()> {
    stream.read_to_end(&mut Vec::new())?;
    stream.write_all(b"!")
}

/// From connecting to the far end's word that it has read everything.
pub(crate) fn tcp(to: IpAddr, payload: &[u8]) -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect((to, TCP))?;
    stream.set_nodelay(true)?;
    stream.write_all(payload)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(start.elapsed())
}

/// Acknowledges requests and blocks by their number.
fn tftp_serve(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; BLOCK + 4];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        match buffer[..len] {
            [0, 2, ..] => socket.send_to(&[0, 4, 0, 0], from)?,
            [0, 3, high, low, ..] => socket.send_to(&[0, 4, high, low], from)?,
            _ => 0,
        };
    }
}

/// RFC 1350's write: a request, then one block after the other, each acknowledged, the last one
/// shorter than the others. Nothing is lost here, so that nothing is repeated.
pub(crate) fn tftp(to: IpAddr, payload: &[u8]) -> io::Result<Duration> {
    let start = Instant::now();
    let any = if to.is_loopback() { "127.0.0.1:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect((to, TFTP))?;
    let mut ack = [0; 4];
    socket.send(b"\0\x02payload\0octet\0")?;
    socket.recv(&mut ack)?;
    for number in 0..=payload.len() / BLOCK {
        let block = &payload[number * BLOCK..payload.len().min((number + 1) * BLOCK)];
        let number = (number as u16 + 1).to_be_bytes();
        socket.send(&[&[0, 3], &number[..], block].concat())?;
        socket.recv(&mut ack)?;
        if ack[2..] != number {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(start.elapsed())
}

fn interface(way: Way, far: bool) -> &'static str {
    match (way, far) {
        (Way::Loopback, _) => "lo",
        (_, true) => "far0",
        (_, false) => "near0",
    }
}

/// UFTP's server, if it is installed.
fn uftpd(way: Way, dir: &Path) -> Option<Child> {
    Command::new("uftpd")
        .args(["-d", "-I", interface(way, true), "-D"])
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

/// UFTP to one receiver at 100 Mbit/s; `None` if it is not installed or fails.
pub(crate) fn uftp(way: Way, file: &Path) -> Option<Duration> {
    let to = way.addr(EXTENDED).to_string();
    let start = Instant::now();
    let status = Command::new("uftp")
        .args(["-q", "-I", interface(way, false), "-M", &to, "-P", &to, "-R", "100000"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    status.success().then(|| start.elapsed())
}
