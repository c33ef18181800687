package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeBridge makes a bridge of the kernel's.
func makeBridge(name string) error {
	b, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	// SAFETY: the kernel reads the name up to its zero byte (net/bridge/br_ioctl.c).
	return bridge(unix.SIOCBRADDBR, uintptr(unsafe.Pointer(b)), "make bridge "+name)
}

// join adds an interface to a bridge.
func join(bridgeName string, index int) error {
	ifr, err := unix.NewIfreq(bridgeName)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(index))
	// SAFETY: SIOCBRADDIF reads a struct ifreq, the layout of which Ifreq has.
	return bridge(unix.SIOCBRADDIF, uintptr(unsafe.Pointer(ifr)), "add to bridge "+bridgeName)
}

func bridge(request uint, arg uintptr, what string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), arg); e != 0 {
		return fmt.Errorf("%s: %w", what, e)
	}
	return nil
}
