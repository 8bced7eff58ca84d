#!/busybox sh
# The first program of a guest. @NAME@ is filled in when the guest is prepared.
# What the jobs print goes to the second serial port, away from the kernel's messages.
/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t devtmpfs none /dev
for module in $(cat /modules/order); do
    insmod "/modules/$module" || echo "no module $module"
done
results=/dev/ttyS1
stty -F $results raw -echo
echo "@MARK@ release $(uname -r)" >$results
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose hostroot /host || poweroff -f
mount -t proc none /host/proc
mount -t sysfs none /host/sys
mount -t devtmpfs none /host/dev
mount -t tmpfs none /host/run
mount -t bpf none /host/sys/fs/bpf
mkdir -p /host/run/tmp /host/run/netns
chmod 1777 /host/run/tmp
ip link set lo up
chroot /host /bin/sh @SCRIPT@ >$results 2>&1
echo "@MARK@ end" >$results
# The port is drained before the power goes.
sleep 0.2
poweroff -f
