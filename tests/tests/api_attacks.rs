//! The API over TCP under attack: whatever a web page, a neighbour on this machine or a broken program can send there is
//! refused as what it is, and nothing comes of it.
//!
//! The node is whole and in this process, so that its time limits are short. An attack is bytes on a raw socket: no client
//! of ours, or of anybody, stands between and makes them proper.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "api_attacks/heads.rs"]
mod heads;
#[path = "api_attacks/slow.rs"]
mod slow;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dms_node::api::address::HttpAddress;
use dms_node::api::client::{ApiClient, ClientError};
use dms_node::api::server::{ApiLimits, ApiListener, ApiState, TcpApi, serve};
use dms_node::api::token::{TOKEN_FILE, Token};
use dms_node::api::types::JobDefaults;
use dms_node::commands::NodeStatus;
use dms_node::config::{EngineKind, Settings};
use dms_node::identity::Identity;
use dms_node::startup::RunningNode;
use dms_tests::{DEADLINE, Home, proof, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

/// Short enough that a suite which runs into them a dozen times is quick, and long enough for an honest request on a
/// machine that also compiles.
const LIMITS: ApiLimits =
    ApiLimits { head: Duration::from_secs(1), body: Duration::from_secs(1), tcp_connections: 8 };
/// What each attack orders, if it is let in.
const ORDER: &str = r#"{"role":"member","uses":1,"ttl":3600000}"#;
/// How much more memory the process may have after all of it, in KiB: a few bodies, and what an allocator keeps.
const MEMORY_KIB: usize = 128 * 1024;

/// What a process has open is counted, so no two of these tests run at once.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What is sent, and what must come of it.
struct Attack {
    name: &'static str,
    bytes: Vec<u8>,
    /// Any of these; none if the connection is closed without an answer.
    expected: &'static [u16],
}

/// A node that serves its API at a port.
struct Target {
    home: Home,
    address: SocketAddr,
    token: String,
    socket: ApiClient,
    tcp: ApiClient,
    node: RunningNode,
    serving: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Target {
    async fn start() -> Self {
        let home = Home::new();
        let mut settings = Settings::for_data_dir(home.path());
        settings.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
        (settings.mdns, settings.engine) = (false, EngineKind::Memory);
        let node =
            RunningNode::start(&settings, Identity::load_or_create(&settings.data).unwrap()).await.unwrap();
        let token = Token::load_or_create(home.path()).unwrap();
        let tcp = TcpApi::bind("127.0.0.1:0".parse().unwrap(), token.clone()).await.unwrap();
        let address = tcp.address();
        let state = ApiState {
            node: node.node.clone(),
            engine: node.engine.clone(),
            blobs: node.blobs.clone(),
            clock: node.clock.clone(),
            defaults: JobDefaults::default(),
        };
        let listener = ApiListener::bind(&settings.api).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, Some(tcp), state, LIMITS, async {
            let _ = stopped.await;
        }));
        let text = std::fs::read_to_string(home.path().join(TOKEN_FILE)).unwrap();
        Self {
            address,
            token: text.trim_end().to_owned(),
            socket: ApiClient::new(&settings.api),
            tcp: ApiClient::over_tcp(url(address), token),
            home,
            node,
            serving,
            stop,
        }
    }

    /// What an attack must not change.
    async fn state(&self) -> (u64, usize, usize) {
        let status = self.socket.status().await.unwrap();
        let invites = self.socket.invites().await.unwrap();
        (status.event_count, status.job_count, invites.len())
    }

    /// A head with the token, as a program of the owner's would begin one.
    fn head(&self, line: &str, more: &str) -> Vec<u8> {
        let (address, token) = (self.address, &self.token);
        format!("{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
            .into_bytes()
    }

    /// An order with the token: an attack puts something else in the place of a part of it.
    fn order(&self) -> String {
        let length = ORDER.len();
        let more = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        String::from_utf8(self.head("POST /v1/invites", &more)).unwrap() + ORDER
    }

    /// Sends bytes and reads what comes until the other end closes, which it must.
    async fn fire(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // Who is refused before all is sent may not be able to send the rest.
        let _ = stream.write_all(bytes).await;
        answer(&mut stream).await
    }

    async fn stop(self) -> Home {
        self.stop.send(()).unwrap();
        tokio::time::timeout(DEADLINE, self.serving).await.expect("it stops in time").unwrap();
        self.node.stop(Duration::from_secs(10)).await;
        self.home
    }
}

fn url(address: SocketAddr) -> HttpAddress {
    format!("http://{address}").parse().unwrap()
}

/// All that comes until the end of a connection, however it ends.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let all = async {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..length]);
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("a refused connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The status of an answer; none if there is none. One request has one answer, and no word of CORS in it.
#[track_caller]
fn status_of(name: &str, answer: &str) -> Option<u16> {
    assert!(answer.matches("HTTP/1.").count() <= 1, "{name}: more than one answer:\n{answer}");
    assert!(!answer.to_ascii_lowercase().contains("access-control-"), "{name}: CORS:\n{answer}");
    let line = answer.strip_prefix("HTTP/1.1 ").or_else(|| answer.strip_prefix("HTTP/1.0 "))?;
    Some(line.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{name}:\n{answer}")))
}

/// Waits until the node stands so.
async fn wait_until(client: &ApiClient, what: &str, is_so: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    let start = Instant::now();
    loop {
        let status = client.status().await.unwrap();
        if is_so(&status) {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "{what} did not come: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Resident memory of this process in KiB, and its open files; none where the system does not say.
fn footprint() -> Option<(usize, usize)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory = line.split_whitespace().next()?.parse().ok()?;
    Some((memory, std::fs::read_dir("/proc/self/fd").ok()?.count()))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_but_an_honest_request_with_the_token_is_refused_without_effect() {
    let _alone = ALONE.lock().await;
    let target = Target::start().await;
    // The way is open: what follows is refused for what it is.
    assert_eq!(status_of("an order", &target.fire(target.order().as_bytes()).await), Some(201));
    assert_eq!(target.tcp.status().await.unwrap().api_listen, Some(target.address));
    let before = target.state().await;
    let idle_tasks = target.socket.status().await.unwrap().task_count;
    let footprint_before = footprint();

    let attacks = heads::attacks(&target);
    let mut let_through = Vec::new();
    for Attack { name, bytes, expected } in &attacks {
        let answer = target.fire(bytes).await;
        let status = status_of(name, &answer);
        let is_expected = match status {
            Some(status) => expected.contains(&status),
            None => expected.is_empty(),
        };
        if !is_expected {
            let_through.push(format!("{name}: expected {expected:?}, and the answer was {answer:?}"));
        }
    }
    assert!(let_through.is_empty(), "{}", let_through.join("\n"));
    let slow_count = slow::attack(&target).await;
    let at_socket_count = heads::attack_socket(&target).await;

    assert_eq!(target.state().await, before, "an attack had an effect");
    let count = attacks.len() + slow_count + at_socket_count;
    assert!(count >= 40, "only {count} attacks");
    // What was taken for them is given back.
    wait_until(&target.socket, "the end of their tasks", |status| status.task_count <= idle_tasks + 4).await;
    if let Some(((memory_before, _), (memory, _))) = footprint_before.zip(footprint()) {
        let more = memory.saturating_sub(memory_before);
        assert!(more < MEMORY_KIB, "{more} KiB more after {count} attacks");
    }
    if let Some((_, files_before)) = footprint_before {
        wait_for("closed connections", || match footprint().unwrap().1 {
            files if files <= files_before + 4 => Ok(()),
            files => Err(files),
        });
    }
    assert_eq!(status_of("an order", &target.fire(target.order().as_bytes()).await), Some(201));
    assert_eq!(target.socket.invites().await.unwrap().len(), before.2 + 1);
    target.stop().await;
    proof(&format!(
        "API: {count} attacks refused, none with an effect, and an honest request answered after them"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_the_token_does_all_over_tcp_and_one_with_another_is_told_so() {
    let _alone = ALONE.lock().await;
    let target = Target::start().await;
    let large = vec![7u8; 16 * 1024 * 1024];
    let stored = target.tcp.put_blob(large.clone()).await.unwrap();
    assert_eq!(target.tcp.blob(&stored.cid).await.unwrap(), large);
    let other = Home::new();
    let other = ApiClient::over_tcp(url(target.address), Token::load_or_create(other.path()).unwrap());
    let code = |error| match error {
        ClientError::Refused(error) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(other.status().await.unwrap_err()), "no_token");
    // The answer comes though it is given before all of this is sent.
    assert_eq!(code(other.put_blob(large).await.unwrap_err()), "no_token");
    let address = target.address;
    target.stop().await;
    assert!(matches!(other.status().await, Err(ClientError::Unreachable { .. })), "{address} is still open");
}

#[test]
fn a_node_is_managed_through_a_port_with_the_command_line_and_its_token() {
    let _alone = ALONE.blocking_lock();
    let (home, elsewhere) = (Home::new(), Home::new());
    let node = home.start(&["--no-mdns", "--api-listen", "127.0.0.1:0"]);
    let address = node.ready["api_listen"].as_str().expect("it says where").to_owned();
    let url = format!("http://{address}");
    let token = home.path().join(TOKEN_FILE).display().to_string();
    let run = |arguments: &[&str]| elsewhere.dms(&[&["--api", &url], arguments].concat());
    let with_token = |arguments: &[&str]| run(&[&["--api-token-file", &token], arguments].concat());

    let status = with_token(&["status"]);
    assert!(status.stdout.contains(&node.did()) && status.stdout.contains(&url), "{status}");
    let stats = with_token(&["db", "stats", "--json"]);
    assert!(stats.status.success(), "{stats}");
    let log = with_token(&["log", "--json"]);
    assert!(log.status.success() && log.stdout.contains("sequence"), "{log}");
    // On the node's own machine its token is found where it is.
    assert_eq!(home.dms(&["--api", &url, "status"]).code(), Some(0));

    let none = run(&["status"]);
    assert!(none.code() == Some(78) && none.stderr.contains("--api-token-file"), "{none}");
    Token::load_or_create(elsewhere.path()).unwrap();
    let wrong = run(&["status"]);
    assert!(wrong.code() == Some(78) && wrong.stderr.contains("the token of this node is needed"), "{wrong}");
    for here in [&["run"][..], &["onboard", "--yes"], &["join", "x"]] {
        let refused = with_token(here);
        assert!(refused.code() == Some(2) && refused.stderr.contains("about this machine"), "{refused}");
    }
    let taken = Home::new().run_in_vain(&["--no-mdns", "--api-listen", &address]);
    assert!(taken.code() == Some(1) && taken.stderr.contains("--api-listen"), "{taken}");
    drop(node);
    let gone = with_token(&["db", "stats"]);
    assert!(gone.code() == Some(69) && gone.stderr.contains("no node can be reached"), "{gone}");
}
