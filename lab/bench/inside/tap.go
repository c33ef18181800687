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
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := net.InterfaceByName(name); err == nil {
			break
		} else if time.Now().After(end) {
			return fmt.Errorf("the VMM made no TAP: %w", err)
		}
	}
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
	set(unix.SIOCSIFADDR, initrd.HostAddress)
	set(unix.SIOCSIFNETMASK, "255.255.255.0")
	if err != nil {
		return fmt.Errorf("address of the TAP: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
