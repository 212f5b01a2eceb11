//! The container that a cgroup path tells of. Engines write the container's id into the path: Docker
//! `/docker/<id>` and `docker-<id>.scope`, containerd `cri-containerd-<id>.scope`, CRI-O `crio-<id>.scope`, Podman
//! `libpod-<id>.scope`, all with 64 hex digits; LXC `/lxc/<name>` and `lxc.payload.<name>`, with the name.

/// Digits of an id of the Open Container Initiative's engines.
const ID_LEN: usize = 64;

/// The innermost container's id.
pub fn id(cgroup: &[u8]) -> Option<String> {
    let parts: Vec<&[u8]> = cgroup.split(|&byte| byte == b'/').collect();
    (0..parts.len()).rev().find_map(|at| hex_id(parts[at]).or_else(|| lxc_name(&parts, at)))
}

fn hex_id(part: &[u8]) -> Option<String> {
    let part = part.strip_suffix(b".scope").unwrap_or(part);
    let digits = part.len().checked_sub(ID_LEN).map(|at| &part[at..])?;
    let apart = part.len() == ID_LEN || part[part.len() - ID_LEN - 1] == b'-' || part[part.len() - ID_LEN - 1] == b':';
    let hex = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (apart && hex).then(|| String::from_utf8_lossy(digits).into_owned())
}

fn lxc_name(parts: &[&[u8]], at: usize) -> Option<String> {
    let name = match parts[at].strip_prefix(b"lxc.payload.") {
        Some(name) => name,
        None if at > 0 && parts[at - 1] == b"lxc" => parts[at],
        None => return None,
    };
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_name_their_containers() {
        let hex = "0123456789abcdef".repeat(4);
        let check = |path: String, expect: Option<&str>| assert_eq!(id(path.as_bytes()).as_deref(), expect, "{path}");
        check(format!("/docker/{hex}"), Some(&hex));
        check(format!("/system.slice/docker-{hex}.scope"), Some(&hex));
        check(format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{hex}.scope/init"), Some(&hex));
        check(format!("/kubelet/pods:cri-containerd:{hex}"), Some(&hex));
        check("/lxc/web1/system.slice".to_owned(), Some("web1"));
        check("/lxc.payload.web1".to_owned(), Some("web1"));
        check("/system.slice/apache2.service".to_owned(), None);
        check(format!("/x{hex}"), None);
        check("/".to_owned(), None);
        check(String::new(), None);
    }
}
