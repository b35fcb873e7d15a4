package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// openLink makes the device and starts the link; stop removes both. It needs the right to
// make network devices (CAP_NET_ADMIN).
func openLink(ctx context.Context) (p place, stop func(), err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return place{}, nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	name := fmt.Sprintf("isthmus%d", os.Getpid()%100_000)
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return place{}, nil, fmt.Errorf("make network device %s: %w", name, err)
	}
	device := os.NewFile(uintptr(fd), name)
	// Of the range that RFC 2544 sets aside for benchmarks.
	network := fmt.Sprintf("198.18.%d.", os.Getpid()%256)
	p = place{here: network + "1", there: network + "2", link: &link{device: device}}
	for _, args := range []string{
		"addr add " + p.here + "/30 dev " + name,
		"link set " + name + " mtu 1500 txqueuelen 10000 up",
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			_ = device.Close()
			return place{}, nil, fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.link.run(ctx)
	}()
	return p, func() {
		cancel()
		_ = device.Close()
		<-done
	}, nil
}
