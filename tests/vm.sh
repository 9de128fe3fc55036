#!/usr/bin/env bash
# Installs the ARM package on a whole emulated machine: `make vm-test`.
#
# QEMU plays a board with two slow cores, 512 MB and a USB serial adapter; on it boots a Debian for 64-bit ARM with systemd as
# process 1 and Debian's own kernel, so that what a container leaves out (device rules, udev, a power cut) is real.
# tests/vm-inside.sh then says inside what must hold: one `ok` a line. Ends with 0 only if each of them does.
#
# The Debian is made once (network, some six minutes) and kept in target/vm; a run boots a copy that is thrown away. Needs
# root, for the making. A run may take six minutes. `tests/vm.sh prepare` only makes it.
#
# Must not: touch this machine's packages, services or serial devices.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian 12; VM_SUITE=trixie tries another one.
suite=${VM_SUITE:-bookworm}
# Rises when something in `prepare` changes: the Debian is made anew.
recipe=1
# What a run may take, seconds.
limit=360

deb=$(ls -t target/debian/portero_*_arm64.deb 2>/dev/null | head -n 1) || true
if [ ! -s "$deb" ] && [ "${1:-}" != prepare ]; then
    echo "vm: no target/debian/portero_*_arm64.deb; run: make cross && make deb TARGET=aarch64-unknown-linux-gnu" >&2
    exit 1
fi
[ "$(id -u)" = 0 ] || { echo "vm: run it as root" >&2; exit 1; }
export PATH=$PATH:/usr/sbin:/sbin

kept=$PWD/target/vm/$suite
mkdir -p "$kept"
work=$(mktemp -d "$kept/run-XXXXXX")
# The package manager reads in it as a user of its own.
chmod 755 "$work"
machine='' told=''
end() {
    [ -z "$machine" ] || kill "$machine" 2>/dev/null || true
    [ -z "$told" ] || kill "$told" 2>/dev/null || true
    forget_arm
    # What a bootstrap that was cut off has left mounted is not ours to empty.
    rm -rf --one-file-system "$work"
}
trap end EXIT

# The package manager of the Debian that is made is a program for ARM. If this machine doesn't run those yet, it does until
# the end of this script.
binfmt=/proc/sys/fs/binfmt_misc
taught= mounted=
teach_arm() {
    [ "$(uname -m)" != aarch64 ] || return 0
    if [ ! -e $binfmt/register ]; then
        mount -t binfmt_misc binfmt_misc $binfmt || { echo "vm: can't have this machine run ARM programs" >&2; exit 1; }
        mounted=yes
    fi
    [ ! -e $binfmt/qemu-aarch64 ] || return 0
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >$binfmt/register
    taught=yes
}
forget_arm() {
    [ -z "$taught" ] || echo -1 >$binfmt/qemu-aarch64
    [ -z "$mounted" ] || umount $binfmt
    taught= mounted=
}

# What the kernel needs to come to its root, and for the serial adapter. All of it is loaded before systemd starts, so that
# the root needs no modules.
modules=(virtio_pci virtio_blk ext4 xhci_pci usbserial ftdi_sio)

make_initramfs() { # make_initramfs UNPACKED-KERNEL OUT
    local kernel=$1 out=$2 tree=$work/initramfs version module file
    # From Debian 13 on a package has all of this below usr.
    [ -e "$kernel/lib" ] || ln -s usr/lib "$kernel/lib"
    [ -e "$kernel/bin" ] || ln -s usr/bin "$kernel/bin"
    version=$(basename "$kernel"/lib/modules/*)
    depmod --basedir "$kernel" "$version"
    mkdir -p "$tree"/{bin,modules,proc,sys,dev,root}
    cp "$kernel/bin/busybox" "$tree/bin/busybox"
    for module in "${modules[@]}"; do
        modprobe --dirname "$kernel" --set-version "$version" --show-depends $module
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/order"
    while read -r file; do
        cp "$file" "$tree/modules/"
        echo "${file##*/}" >>"$tree/modules/order"
    done <"$work/order"
    xz -d "$tree"/modules/*.xz 2>/dev/null || true
    sed -i 's/\.xz$//' "$tree/modules/order"
    cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for module in $($b cat /modules/order); do
    $b insmod /modules/$module
done
n=0
until [ -b /dev/vda ] || [ $n = 100 ]; do
    n=$((n + 1))
    $b sleep 0.1
done
$b mount -t ext4 /dev/vda /root && exec $b switch_root /root /sbin/init
echo "no root file system"
$b poweroff -f
INIT
    chmod 755 "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$out"
}

prepare() {
    local root=$work/root started=$SECONDS
    echo "vm: making a Debian $suite for ARM64, once (some six minutes; kept in target/vm)"
    rm -f "$kept"/{root.ext4,vmlinuz,initrd,recipe}
    teach_arm
    # The kernel is fetched and not installed: making its own initramfs would take longer than all of the rest.
    # shellcheck disable=SC2016 # the hooks' own variables
    mmdebstrap --architectures=arm64 --variant=minbase \
        --include=systemd,systemd-sysv,dbus,udev,kmod,ca-certificates,init-system-helpers \
        --customize-hook='mkdir "$1/srv/kernel"; cd "$1/srv/kernel"; export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
            apt-get -q download busybox-static "$(apt-cache depends linux-image-arm64 | awk "/Depends:/ { print \$2; exit }")"' \
        $suite "$root" >"$kept/log" 2>&1 || { tail -n 20 "$kept/log" >&2; exit 1; }
    forget_arm

    local package
    for package in "$root"/srv/kernel/*.deb; do
        dpkg-deb -x "$package" "$work/kernel"
    done
    rm -r "$root/srv/kernel"
    make_initramfs "$work/kernel" "$kept/initrd"
    cp "$work"/kernel/boot/vmlinuz-* "$kept/vmlinuz"

    # Fixed: with an id of its own it doesn't ask who it is on its first boot.
    echo 5a5a5a5a5a5a4a5a8a5a5a5a5a5a5a5a >"$root/etc/machine-id"
    echo '/dev/vda / ext4 noatime 0 1' >"$root/etc/fstab"
    local unit units=$root/etc/systemd/system
    for unit in serial-getty@ttyAMA0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        e2scrub_all.timer e2scrub_reap.service systemd-pstore.service fstrim.timer proc-sys-fs-binfmt_misc.automount; do
        ln -sf /dev/null "$units/$unit"
    done
    # The second disk is an archive with the packages and the script; the first line of PCI serial ports is where it speaks.
    cat >"$units/vm.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStartPre=/bin/sh -c 'stty -F /dev/ttyS0 raw && mkdir -p /run/vm && tar -C /run/vm -xf /dev/vdb'
ExecStart=/bin/sh -c '/run/vm/inside >/dev/ttyS0 2>&1'
ExecStopPost=/bin/systemctl --no-block poweroff
UNIT
    mkdir -p "$units/multi-user.target.wants"
    ln -s ../vm.service "$units/multi-user.target.wants/vm.service"

    local size=$(($(du -sm --one-file-system "$root" | cut -f 1) + 600))
    truncate -s ${size}M "$work/root.ext4"
    mke2fs -q -t ext4 -d "$root" "$work/root.ext4"
    mv "$work/root.ext4" "$kept/root.ext4"
    rm -rf --one-file-system "$root" "$work/kernel"
    echo $recipe >"$kept/recipe"
    echo "vm: made in $((SECONDS - started)) s"
}
[ "$(cat "$kept/recipe" 2>/dev/null)" = $recipe ] || prepare
[ "${1:-}" != prepare ] || exit 0

echo "vm: packing $(basename "$deb"), and the same as a newer version"
mkdir "$work/cargo"
cp "$deb" "$work/cargo/portero.deb"
tests/next-version.sh "$deb" "$work/cargo/next.deb"
install -m 755 tests/vm-inside.sh "$work/cargo/inside"
# What a reader says of one card.
tr -d ' \n' <tests/fixtures/rdm6300/captured.hex | perl -ne 'print pack "H*", $_' >"$work/cargo/frame"
tar -C "$work/cargo" -cf "$work/cargo.tar" .

# The reader's end of the serial line is a port of the same machine: what the script writes there comes in at the adapter.
# The root is never written: what the machine changes is in a file of QEMU's that goes with it.
echo "vm: booting (the machine is emulated: a minute; in all at most $limit s)"
started=$SECONDS
: >"$work/said"
(
    cd "$work"
    exec timeout $limit qemu-system-aarch64 -M virt -cpu cortex-a53 -accel tcg,thread=multi -smp 2 -m 512 \
        -display none -monitor none -nic none -serial file:console \
        -kernel "$kept/vmlinuz" -initrd "$kept/initrd" -append "console=ttyAMA0 root=/dev/vda rw net.ifnames=0 quiet" \
        -drive file="$kept/root.ext4",if=none,id=root,format=raw,snapshot=on -device virtio-blk-pci,drive=root \
        -drive file=cargo.tar,if=none,id=cargo,format=raw,readonly=on -device virtio-blk-pci,drive=cargo \
        -chardev file,id=said,path=said -device pci-serial,chardev=said \
        -chardev socket,id=reader,path=line,server=on,wait=off -device pci-serial,chardev=reader \
        -chardev socket,id=adapter,path=line,reconnect=1 -device qemu-xhci \
        -device usb-serial,chardev=adapter,always-plugged=on </dev/null 2>qemu
) &
machine=$!
tail -n +1 --follow --pid=$machine "$work/said" &
told=$!
status=0
wait $machine || status=$?
machine=
wait $told || true
told=
if [ $status != 0 ] || ! tail -n 1 "$work/said" | grep -q '^vm: all as it should be'; then
    [ $status != 124 ] || echo "vm: not done within $limit s" >&2
    cat "$work/qemu" >&2
    echo "vm: FAILED after $((SECONDS - started)) s; the console's last words:" >&2
    tail -n 30 "$work/console" >&2
    exit 1
fi
echo "vm: $(grep -c '^ok ' "$work/said") checks held, $((SECONDS - started)) s from power on to power off"
