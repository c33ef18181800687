package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
	"warder/guestinit/system"
	"warder/lab/bench/initrd"
)

// port is where the host listens; it speaks the protocol of [measurePeer].
const port = 5000

// measureSocket measures a connection to the host.
func measureSocket(r report) error {
	c, err := vsock.Dial(vsock.Host, port, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return measurePeer(r, c, total)
}

// measureNet measures a TCP connection to the host.
func measureNet(r report) error {
	err := eventually(func() error {
		_, err := system.SetInterface(proto.Interface{
			MAC: initrd.GuestMAC, Addresses: []netip.Prefix{netip.MustParsePrefix(initrd.GuestAddress)},
		})
		return err
	})
	if err != nil {
		return err
	}
	return measureAddress(initrd.HostAddress, r)
}

// measurePeer measures a stream whose other end takes total bytes, answers
// with one, sends total bytes, and then sends back each byte that it gets.
func measurePeer(r report, c io.ReadWriter, total int) error {
	one := make([]byte, 1)
	sent := 0
	v, err := stream(total, func(b []byte) error {
		n, err := c.Write(b)
		if sent += n; err == nil && sent == total {
			_, err = io.ReadFull(c, one)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("to the host: %w", err)
	}
	r("to host", v)
	v, err = stream(total, func(b []byte) error { _, err := io.ReadFull(c, b); return err })
	if err != nil {
		return fmt.Errorf("from the host: %w", err)
	}
	r("from host", v)
	v, err = each(func(int) error {
		if _, err := c.Write(one); err != nil {
			return err
		}
		_, err := io.ReadFull(c, one)
		return err
	})
	r("round trip", v)
	return err
}

// measureConsole measures the virtio console, without line editing and echo.
func measureConsole(r report) error {
	const name = "/dev/hvc0"
	if err := appear(name); err != nil {
		return err
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return measurePeer(r, f, initrd.ConsoleSize)
}
