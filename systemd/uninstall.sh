#!/bin/sh
# Removes chipmedic from this host. State (/var/lib/chipmedic), configuration (/etc/chipmedic) and the
# users that own them stay, so that a later installation goes on where this one ended; --purge removes
# them too.
set -eu

fail() {
    echo "uninstall: $*" >&2
    exit 1
}

purge=no
case ${1:-} in
"") ;;
--purge) purge=yes ;;
-h | --help) echo "usage: uninstall [--purge]" && exit 0 ;;
*) fail "$1: the only option is --purge" ;;
esac
[ "$(id -u)" = 0 ] || fail "must run as root: sudo $0"

units=/etc/systemd/system
for unit in chipmedic-agent.service chipmedic-watchdog.service; do
    [ -e $units/$unit ] || continue
    systemctl --quiet disable --now $unit
    systemctl reset-failed $unit 2>/dev/null || :
    rm -rf $units/$unit $units/$unit.d
done
systemctl stop chipmedic.slice 2>/dev/null || :
rm -f $units/chipmedic.slice /etc/sysusers.d/chipmedic.conf /etc/tmpfiles.d/chipmedic.conf
systemctl daemon-reload
rmdir /etc/sysusers.d /etc/tmpfiles.d 2>/dev/null || : # empty ones: made for us
rm -rf /run/chipmedic /opt/chipmedic
if [ $purge = yes ]; then
    rm -rf /etc/chipmedic /var/lib/chipmedic
    for user in chipmedic-agent chipmedic-watchdog; do
        ! getent passwd $user >/dev/null || userdel $user
    done
    echo "chipmedic is removed, with its state and configuration"
else
    echo "chipmedic is removed; its state stays in /var/lib/chipmedic, its configuration in /etc/chipmedic"
fi
