#!/usr/bin/env bash
# A newer version of a package, for the tests of upgrades: `tests/next-version.sh DEB OUT`.
#
# The same program under a higher version, and another configuration as shipped: an upgrade must not ask about that.
#
# Must not: be released.
set -euo pipefail

deb=${1:?which package} out=${2:?where to}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

dpkg-deb -R "$deb" "$tree"
sed -i 's/^Version: .*/&+next/' "$tree/DEBIAN/control"
for shipped in "$tree/usr/share/portero/portero.toml" "$tree/etc/portero/portero.toml"; do
    [ ! -e "$shipped" ] || echo '# as the next version ships it' >>"$shipped"
done
(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -z1 -b "$tree" "$out" >/dev/null
