#!/bin/sh
# What tests/vm.sh has said inside the emulated machine, as root, after each boot. Each check prints `ok` or `FAILED`; the
# first one that fails ends it.
#
# Must not: be run on a machine that somebody needs.
set -u

here=/run/vm
# How far it came before the power was cut, and how many events it had seen then.
stage=/var/vm-stage
expected=/var/vm-expected
# The card of tests/fixtures/rdm6300/captured.hex.
card=4295439584
# WatchdogSec of the unit, and what a restart may take.
watchdog=60
grace=5

checks=$(cat $stage 2>/dev/null || echo 0)
uptime() { cut -d . -f 1 /proc/uptime; }

check() { # check WHAT SCRIPT
    at=$(uptime)
    if ! sh -euc "$helpers
$2" >/tmp/said 2>&1; then
        echo "FAILED  $1"
        cat /tmp/said
        systemctl --no-pager --failed
        systemctl --no-pager status portero
        journalctl --no-pager --lines=40
        exit 1
    fi
    checks=$((checks + 1))
    echo "ok      $1 ($(($(uptime) - at)) s)"
}

# shellcheck disable=SC2016 # for the shells of the checks
helpers='
pid() { systemctl show --property=MainPID --value portero; }
nothing_failed() { test -z "$(systemctl --failed --no-legend)"; }
count() { portero journal stats --json | sed "s/.*\"appended\":\([0-9]*\).*/\1/"; }
within() { # within SECONDS COMMAND...: asks until it is so
    until=$(($(cut -d . -f 1 /proc/uptime) + $1)); shift
    until "$@"; do
        [ "$(cut -d . -f 1 /proc/uptime)" -lt $until ] || { echo "it did not come to: $*"; return 1; }
        sleep 0.2
    done
}
another() { [ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ]; }
running_anew() { # running_anew PID: another process than that one is ready
    systemctl is-active --quiet portero && another "$1"
}
hears() { portero status --json | grep -q "\"name\":\"gate-1\".*\"state\":\"up\""; }
at_least() { [ "$(count)" -ge "$1" ]; }
swipe() { # one card held to the reader: it says its number several times
    before=$(count)
    cat /run/vm/frame /run/vm/frame /run/vm/frame >/dev/ttyS1
    within 20 at_least $((before + 1))
    sleep 1
    [ "$(count)" = $((before + 1)) ]
}
confined() { # confined COMMAND...: as root, and in the control group of the service
    sh -c "echo \$\$ >/sys/fs/cgroup/system.slice/portero.service/cgroup.procs && exec \"\$@\"" - "$@"
}
refused() { # refused COMMAND...: the kernel says that it is not allowed
    if "$@" 2>/tmp/refused; then echo "allowed: $*"; return 1; fi
    grep "Operation not permitted" /tmp/refused
}
'

if [ ! -e $stage ]; then
    echo "vm: up after $(uptime) s: $(uname -mr), $(systemctl --version | head -n 1), $(nproc) cores, $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MB"

    check "dpkg -i: it runs, waits for its configuration, and nothing has failed" '
        dpkg -i /run/vm/portero.deb </dev/null
        systemctl is-active portero; systemctl is-enabled portero; nothing_failed
        systemctl show --property=StatusText portero | grep "no terminal is configured"
        portero status --json'
    check "the USB adapter that was there before has what the rules say: 1 ms of latency, and no modem manager" '
        adapter=/sys/bus/usb-serial/devices/ttyUSB0
        cat $adapter/latency_timer; test "$(cat $adapter/latency_timer)" = 1
        udevadm info --query=property --name=/dev/ttyUSB0 | grep ID_MM_PORT_IGNORE=1
        udevadm info --query=property --path="$(readlink -f $adapter/../..)" | grep ID_MM_DEVICE_IGNORE=1'
    check "a reader on it, by its name in /dev/serial/by-id, is taken over by a reload" '
        device=$(ls /dev/serial/by-id/*)
        printf "\n[[terminal]]\nname = \"gate-1\"\nprotocol = \"rdm6300\"\nlink = { type = \"serial\", device = \"%s\" }\n" "$device" \
            >>/etc/portero/portero.toml
        portero check; systemctl reload portero
        ls -l /proc/$(pid)/fd | grep ttyUSB0'
    stty -F /dev/ttyS1 raw -echo
    check "a card at the reader is an event in the journal" '
        swipe; portero events --json | grep '"$card"'; portero journal verify'
    check "devices: the control group of the service opens the serial line, and neither disk nor kernel log, not even as root" '
        head -c 1 /dev/vda >/dev/null; confined sh -c ": <>/dev/ttyUSB0"; confined head -c 1 /dev/zero
        refused confined head -c 1 /dev/vda; refused confined sh -c ": </dev/kmsg"; refused confined sh -c ": </dev/hwrng"'
    check "the process: a user of its own, no capabilities, no new ones, system calls filtered, a file system it cannot write" '
        p=/proc/$(pid); test "$(stat -c %U $p)" = portero
        grep -E "^CapEff:\s+0+$" $p/status; grep -E "^CapBnd:\s+0+$" $p/status
        grep -E "^NoNewPrivs:\s+1$" $p/status; grep -E "^Seccomp:\s+2$" $p/status
        test "$(readlink $p/ns/mnt)" != "$(readlink /proc/1/ns/mnt)"; test "$(readlink $p/ns/user)" != "$(readlink /proc/1/ns/user)"
        grep -E " / ext4 ro" $p/mounts; grep -E " /var/lib/portero ext4 rw" $p/mounts'
    check "SIGKILL: it runs again, nothing is lost, and the next card is heard" '
        was=$(pid); n=$(count); kill -KILL $was; within 20 running_anew $was; test "$(count)" = $n; within 10 hears; swipe'
    check "SIGSTOP: the watchdog ends it and starts it again within $watchdog + $grace s" "
        was=\$(pid); n=\$(count); kill -STOP \$was; within $((watchdog + grace)) another \$was
        within 20 running_anew \$was; test \"\$(count)\" = \$n
        journalctl --unit=portero --no-pager --output=short-monotonic | grep -i 'watchdog timeout'"

    echo $checks >$stage
    count=$(portero journal stats --json | sed 's/.*"appended":\([0-9]*\).*/\1/')
    echo $((count + 1)) >$expected
    sync $stage $expected
    echo "vm: one more card, and as soon as it is in the journal the power is cut"
    echo 1 >/proc/sys/kernel/sysrq
    # As if the plug were pulled: nothing is stopped, nothing is written back.
    check "the power is cut" "
        within 10 hears; cat /run/vm/frame /run/vm/frame >/dev/ttyS1; within 20 at_least $((count + 1))
        echo b >/proc/sysrq-trigger; sleep 60; false"
fi

echo "vm: up again after $(uptime) s"
check "after a power cut it runs by itself, and has every event" '
    within 60 systemctl is-active --quiet portero; echo "events: $(count), expected: $(cat /var/vm-expected)"
    test "$(count)" = "$(cat /var/vm-expected)"; portero journal verify; nothing_failed'
stty -F /dev/ttyS1 raw -echo
check "and hears the reader" 'within 10 hears; swipe'
check "an upgrade with nobody there: the new version runs; configuration and journal are as they were" '
    was=$(pid); n=$(count); cp /etc/portero/portero.toml /tmp/ours
    dpkg -i /run/vm/next.deb </dev/null
    dpkg-query --show --showformat="\${Status} \${Version}" portero | grep "install ok installed.*next"
    running_anew $was; cmp /etc/portero/portero.toml /tmp/ours; test "$(count)" = $n; within 10 hears; swipe; nothing_failed'
check "removal keeps journal and configuration" '
    dpkg -r portero; test -s /var/lib/portero/journal.db; cmp /etc/portero/portero.toml /tmp/ours
    test ! -e /usr/bin/portero; test ! -e /run/portero; nothing_failed'
check "purge leaves nothing behind" '
    dpkg -P portero; test ! -e /var/lib/portero; test ! -e /etc/portero; nothing_failed
    test -z "$(find / -xdev -path /proc -prune -o -name "*portero*" ! -path "/var/log/*" ! -path "/tmp/*" -print)"'
echo "vm: all as it should be, $checks checks"
