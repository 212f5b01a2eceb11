//! A small HTTP/1.1 client. The tests need what libraries hide: many requests on one connection, requests sent
//! before the answer to the last has come, and the raw request line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection; it stays open until it is dropped or the server closes it.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub fn open(address: SocketAddr, host: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("could not connect to {address}"))?;
        // A worker that crashed must fail the test, not hang it.
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: host.to_owned() })
    }

    /// Sends one GET without waiting for its answer.
    pub fn send(&mut self, target: &str) -> Result<()> {
        self.send_with(target, "")
    }

    /// The same with more header lines.
    pub fn send_with(&mut self, target: &str, headers: &str) -> Result<()> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.host);
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// Sends several at once, in one segment where they fit: pipelining.
    pub fn send_all(&mut self, targets: &[&str]) -> Result<()> {
        let requests: String =
            targets.iter().map(|target| format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host)).collect();
        Ok(self.stream.get_mut().write_all(requests.as_bytes())?)
    }

    pub fn receive(&mut self) -> Result<Response> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("no status in {line:?}"))?;
        let mut response = Response { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (key, value) = line.split_once(':').with_context(|| format!("no header in {line:?}"))?;
            response.headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            self.chunks(&mut response.body)?;
        } else if let Some(length) = response.header("content-length") {
            response.body = vec![0; length.parse()?];
            self.stream.read_exact(&mut response.body)?;
        } else if status != 204 && status != 304 {
            self.stream.read_to_end(&mut response.body)?;
        }
        Ok(response)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .with_context(|| format!("no chunk size in {line:?}"))?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            bail!("the server closed the connection instead of answering");
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    pub fn get(&mut self, target: &str) -> Result<Response> {
        self.send(target)?;
        self.receive().with_context(|| format!("GET {target} was not answered"))
    }
}
