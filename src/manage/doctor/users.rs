//! Whose rights count: the service's user where root asks, else whoever asks.
//!
//! Must not: trust a name service; only the files of this machine are read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// The service's user (`portero.sysusers`).
const SERVICE: &str = "portero";

/// Read permission, in the bits of a mode's last digit.
pub(super) const READ: u32 = 4;

/// Write permission.
pub(super) const WRITE: u32 = 2;

/// Somebody, and the groups that he is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) uid: u32,
    groups: Vec<u32>,
}

impl Who {
    /// As this machine has it.
    pub(super) fn counts() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
        let uid = rustix::process::getuid().as_raw();
        if uid == 0
            && let Some(service) = Self::named(SERVICE, &passwd, &group)
        {
            return service;
        }
        let mut groups: Vec<u32> =
            rustix::process::getgroups().unwrap_or_default().iter().map(|group| group.as_raw()).collect();
        groups.push(rustix::process::getgid().as_raw());
        Self { name: user_name(uid), uid, groups }
    }

    fn named(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let fields: Vec<&str> = passwd.lines().map(|line| line.split(':').collect()).find(|f: &Vec<_>| f[0] == name)?;
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let mut groups = vec![gid];
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let member = fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
            if let (true, Some(gid)) = (member, fields.get(2).and_then(|gid| gid.parse().ok())) {
                groups.push(gid);
            }
        }
        Some(Self { name: name.to_owned(), uid, groups })
    }

    /// Whether the mode of a file lets him, as far as the mode decides.
    pub(super) fn may(&self, meta: &Metadata, bits: u32) -> bool {
        let mode = meta.mode();
        let own = match () {
            () if self.uid == 0 => return true,
            () if meta.uid() == self.uid => mode >> 6,
            () if self.groups.contains(&meta.gid()) => mode >> 3,
            () => mode,
        };
        own & bits == bits
    }
}

/// The name of a user of this machine, else the number.
pub(super) fn user_name(uid: u32) -> String {
    name_of("/etc/passwd", uid)
}

/// The name of a group of this machine, else the number.
pub(super) fn group_name(gid: u32) -> String {
    name_of("/etc/group", gid)
}

fn name_of(file: &str, number: u32) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == number).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_user_has_its_own_group_and_those_that_name_it() {
        let passwd = "root:x:0:0::/root:/bin/sh\nportero:x:990:989::/:/usr/sbin/nologin\n";
        let group = "root:x:0:\ndialout:x:20:pi,portero\ntty:x:5:porteros\nportero:x:989:\n";
        let who = Who::named("portero", passwd, group).unwrap();
        assert_eq!((who.uid, who.groups.as_slice()), (990, &[989, 20][..]));
        assert_eq!(Who::named("nobody", passwd, group), None);
    }

    #[test]
    fn a_mode_lets_the_owner_the_group_or_everybody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let set = |mode| {
            std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            file.as_file().metadata().unwrap()
        };
        let meta = set(0o640);
        let who = |uid, groups: &[u32]| Who { name: String::new(), uid, groups: groups.to_vec() };
        let (owner, stranger) = (meta.uid() + 1, meta.uid() + 2);
        assert!(who(0, &[]).may(&meta, READ | WRITE));
        assert!(who(owner, &[meta.gid()]).may(&meta, READ) && !who(owner, &[meta.gid()]).may(&meta, WRITE));
        assert!(!who(stranger, &[meta.gid() + 1]).may(&meta, READ));
        assert!(who(stranger, &[meta.gid() + 1]).may(&set(0o604), READ));
    }
}
