package main

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/bench/initrd"
)

const (
	tapName    = "bench"
	tcpAddress = ":5000"
)

// setUpTAP gives the TAP that a VMM makes its address.
func setUpTAP(name string, patience time.Duration) error {
	if _, err := awaitTAP(name, patience); err != nil {
		return err
	}
	return setUp(name, initrd.HostAddress)
}

// awaitTAP waits for a TAP that a VMM makes.
func awaitTAP(name string, patience time.Duration) (*net.Interface, error) {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		i, err := net.InterfaceByName(name)
		if err == nil {
			return i, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("the VMM made no TAP: %w", err)
		}
	}
}

// setUp gives an interface an address in a network of 24 bits, "" for none, and switches
// it on.
func setUp(name, address string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	set := func(request uint, address string) {
		if err == nil {
			err = ifr.SetInet4Addr(netip.MustParseAddr(address).AsSlice())
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, request, ifr)
		}
	}
	if address != "" {
		set(unix.SIOCSIFADDR, address)
		set(unix.SIOCSIFNETMASK, "255.255.255.0")
	}
	if err != nil {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
