#!/usr/bin/env bash
# Installs the package that `make deb` has built on a fresh Debian under systemd, in a container: `make deb-test`.
#
# Install, upgrade, an upgrade that the configuration is not fit for, removal, installation again, purge. The Debian is made
# by debootstrap once (network, a minute or two) and kept in target/package-root.tar. Needs root.
#
# Must not: touch this machine's own services or packages.
set -euo pipefail
cd "$(dirname "$0")/.."

deb=$(ls -t target/debian/portero_*_"$(dpkg --print-architecture)".deb 2>/dev/null | head -n 1) || true
[ -n "$deb" ] || { echo "package: no target/debian/portero_*.deb for this machine; run: make deb" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "package: run it as root" >&2; exit 1; }

suite=bookworm
work=$(mktemp -d "$PWD/target/package-XXXXXX")
guest= container=
end() {
    # With its process 1 the kernel ends all of a guest.
    [ -z "$guest" ] || kill -9 "$guest" 2>/dev/null || true
    [ -z "$container" ] || wait "$container" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap end EXIT

root=$work/root
if [ ! -s target/package-root.tar ]; then
    echo "package: debootstrap $suite (kept in target/package-root.tar)"
    with=systemd,systemd-sysv,udev,init-system-helpers,ca-certificates
    debootstrap --variant=minbase --include=$with $suite "$root" >"$work/log" 2>&1 || { tail "$work/log" >&2; exit 1; }
    # Fixed: with an id of its own it doesn't ask who it is on its first boot.
    echo 5a5a5a5a5a5a4a5a8a5a5a5a5a5a5a5a >"$root/etc/machine-id"
    ln -sf /dev/null "$root/etc/systemd/system/console-getty.service"
    tar -C "$root" -cf target/package-root.tar.new .
    mv target/package-root.tar.new target/package-root.tar
else
    mkdir "$root"
    tar -C "$root" -xf target/package-root.tar
fi
chmod 755 "$root"
cp "$deb" "$root/srv/portero.deb"
tests/next-version.sh "$deb" "$root/srv/next.deb"

systemd-nspawn --register=no --keep-unit --boot --console=read-only --private-network -D "$root" \
    </dev/null >"$work/console" 2>&1 &
container=$!

within() { # within SECONDS COMMAND...: asks until it is so
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $until ] || ! kill -0 $container 2>/dev/null; then
            cat "$work/console" >&2
            echo "package: it did not come to: $*" >&2
            return 1
        fi
        sleep 0.2
    done
}
has_child() { guest=$(awk '{print $1}' /proc/$container/task/$container/children) && [ -n "$guest" ]; }
inside() { nsenter --target "$guest" --mount --uts --ipc --net --pid env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
check() { # check WHAT SCRIPT
    if ! inside sh -ec "$2" >"$work/said" 2>&1; then
        echo "FAILED  $1" >&2
        cat "$work/said" >&2
        inside journalctl --no-pager --lines=30 --unit=portero >&2
        exit 1
    fi
    echo "ok      $1"
}
within 60 has_child
within 60 inside systemctl is-active multi-user.target

dpkg='dpkg -i /srv/portero.deb'
next='dpkg -i /srv/next.deb'
pid='systemctl show --property=MainPID --value portero'
failed='test -z "$(systemctl --failed --no-legend)"'
waits="systemctl show --property=StatusText portero | grep -q 'no terminal is configured'"

check "a fresh install runs, waits for its configuration, and nothing has failed" \
    "$dpkg; systemctl is-active portero; systemctl is-enabled portero; $waits; $failed; portero status --json"
check "user, device group, man page, completions, copyright, list of parts are there" \
    "id -nG portero | grep -qw dialout; cd /usr/share; ls man/man1/portero.1.gz bash-completion/completions/portero \
        zsh/vendor-completions/_portero fish/vendor_completions.d/portero.fish doc/portero/copyright
    zcat doc/portero/sbom.cdx.json.gz | grep -q '\"name\": \"sqlite\"'"
check "a newer package, with nobody there to answer, starts it again and keeps configuration and journal" \
    "was=\$($pid); id=\$(portero journal verify --json); echo '# ours' >>/etc/portero/portero.toml; cp /etc/portero/portero.toml /tmp
    $next </dev/null; systemctl is-active portero; test \$($pid) != \$was; test \"\$(portero journal verify --json)\" = \"\$id\"
    cmp /etc/portero/portero.toml /tmp/portero.toml; grep -q 'next version' /usr/share/portero/portero.toml"
dpkg=$next
check "one that refuses the configuration says so and leaves the old process running" \
    "was=\$($pid); echo 'nonsense = 1' >>/etc/portero/portero.toml; $dpkg 2>/tmp/said
    grep -q 'log.nonsense: found an unknown key' /tmp/said; grep -q 'goes on' /tmp/said; test \$($pid) = \$was"
check "mended, it starts again as told" \
    "sed -i /nonsense/d /etc/portero/portero.toml; portero check; systemctl restart portero; $failed"
check "removal stops it and keeps journal and configuration" \
    "dpkg -r portero; test -s /var/lib/portero/journal.db; test -s /etc/portero/portero.toml; test ! -e /run/portero; $failed"
check "installed again it goes on" "$dpkg; systemctl is-active portero; portero journal verify"
check "an install on a bad configuration starts nothing that fails" \
    "dpkg -r portero; echo 'nonsense = 1' >>/etc/portero/portero.toml; $dpkg 2>/tmp/said; grep -q 'not started' /tmp/said; $failed"
check "purge leaves neither journal nor configuration" \
    "dpkg -P portero; test ! -e /var/lib/portero; test ! -e /etc/portero; test ! -e /usr/bin/portero; $failed"
check "a board with ARMv6 is refused before anything is unpacked" \
    "mkdir /tmp/old; printf '#!/bin/sh\necho armv6l\n' >/tmp/old/uname; chmod +x /tmp/old/uname
    dpkg-deb -e /srv/portero.deb /tmp/control; export DPKG_MAINTSCRIPT_ARCH=armhf; /tmp/control/preinst install
    if PATH=/tmp/old:\$PATH /tmp/control/preinst install; then exit 1; fi"
echo "package: all as it should be"
