//! What runs on the instances.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::lab::Instance;
use super::process::Process;

/// Ports on which every instance answers HTTP.
const WEB_PORTS: [u16; 2] = [8080, 8081];
/// Port on which every instance answers datagrams.
const UDP_PORT: u16 = 5000;

/// A web server and a UDP responder on every instance.
#[derive(Debug)]
pub(crate) struct Servers {
    _web: Vec<Process>,
    _udp: Vec<UdpResponder>,
}

impl Servers {
    pub(crate) fn start(instances: &[Instance], folder: &Path) -> Result<Self> {
        let mut web = Vec::new();
        let mut udp = Vec::new();
        for instance in instances {
            web.push(start_nginx(instance, folder)?);
            for address in [IpAddr::V4(instance.ipv4), IpAddr::V6(instance.ipv6)] {
                udp.push(UdpResponder::start(instance, address)?);
            }
        }
        for (instance, process) in instances.iter().zip(&mut web) {
            wait_for_listener(instance, WEB_PORTS[0], process)?;
        }
        Ok(Self {
            _web: web,
            _udp: udp,
        })
    }
}

/// An nginx that says which instance it is, who asked and which of its addresses was asked.
fn start_nginx(instance: &Instance, folder: &Path) -> Result<Process> {
    let name = &instance.name;
    let home = folder.join(format!("nginx-{name}"));
    std::fs::create_dir_all(&home)?;
    let listen: String = WEB_PORTS
        .iter()
        .map(|port| format!("    listen {port};\n    listen [::]:{port};\n"))
        .collect();
    let temp_paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", home.display()))
        .collect();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {home}/pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n{temp_paths}  keepalive_timeout 1h;\n  keepalive_requests 1000000;\n  \
         default_type text/plain;\n  server {{\n{listen}    location / {{ return 200 \
         \"{name} $remote_addr $server_addr $server_port\\n\"; }}\n  }}\n}}\n",
        home = home.display()
    );
    let file = home.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = instance.namespace.command("nginx");
    command
        .arg("-e")
        .arg("stderr")
        .arg("-p")
        .arg(&home)
        .arg("-c")
        .arg(&file);
    Process::spawn(command, &home.join("log"))
}

/// Waits until somebody accepts connections at an instance.
fn wait_for_listener(instance: &Instance, port: u16, process: &mut Process) -> Result<()> {
    let start = Instant::now();
    let address = SocketAddr::from((instance.ipv4, port));
    while instance
        .namespace
        .enter(|| TcpStream::connect(address))
        .is_err()
    {
        if process.status()?.is_some() || start.elapsed() > Duration::from_secs(10) {
            bail!(
                "nobody listens on {address} at {}:\n{}",
                instance.name,
                process.output()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Answers every datagram with `<instance> <peer address> <peer port> <payload>`.
#[derive(Debug)]
struct UdpResponder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpResponder {
    fn start(instance: &Instance, address: IpAddr) -> Result<Self> {
        let socket = instance
            .namespace
            .enter(|| UdpSocket::bind((address, UDP_PORT)))
            .with_context(|| format!("listen on {address} port {UDP_PORT}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stop_too) = (instance.name.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || answer_datagrams(&socket, &name, &stop_too));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

fn answer_datagrams(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, peer)) => {
                let payload = String::from_utf8_lossy(&buffer[..length]);
                let answer = format!("{name} {} {} {payload}", peer.ip(), peer.port());
                let _ = socket.send_to(answer.as_bytes(), peer);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // An ICMP error for an earlier answer; the next datagram is unaffected.
            Err(_) => {}
        }
    }
}

impl Drop for UdpResponder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An iperf3 server on one instance; stopped when dropped.
#[derive(Debug)]
pub struct IperfServer {
    _process: Process,
}

impl IperfServer {
    pub(crate) fn start(instance: &Instance, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("iperf3-{}.log", instance.name));
        let mut command = instance.namespace.command("iperf3");
        command.args(["--server", "--forceflush"]);
        let process = Process::spawn(command, &log)?;
        let start = Instant::now();
        while !process.output().contains("Server listening") {
            if start.elapsed() > Duration::from_secs(5) {
                bail!(
                    "iperf3 does not start on {}:\n{}",
                    instance.name,
                    process.output()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { _process: process })
    }
}
