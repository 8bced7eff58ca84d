# Makes the taps that a guest's NICs are plugged into, two and two of them connected, then becomes
# the program that is given. To be run in a network namespace of its own.
set -e
PATH=$PATH:/usr/sbin:/sbin
for link in 0 1; do
    ip link add "hub$link" type bridge forward_delay 0 mcast_snooping 0
    ip link set "hub$link" up
    ip tuntap add dev "near$link" mode tap multi_queue
    ip tuntap add dev "far$link" mode tap
    ip link set "near$link" master "hub$link" up
    ip link set "far$link" master "hub$link" up
done
exec "$@"
