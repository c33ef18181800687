package hostinfo

import (
	"errors"

	"golang.org/x/sys/unix"
)

// TAP is whether this user may join VMs with the host's network.
type TAP struct {
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"` // why not
	Todo   string `json:"todo,omitempty"`
}

// tapDevice attaches to interfaces; opening it makes none.
const tapDevice = "/dev/net/tun"

func probeTAP() TAP {
	fd, err := unix.Open(tapDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return tapOf(err)
}

// tapOf says what the error of opening the device means.
func tapOf(err error) TAP {
	switch {
	case err == nil:
		return TAP{Usable: true}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return TAP{Reason: tapDevice + " is not there", Todo: "modprobe tun (CONFIG_TUN)"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return TAP{Reason: tapDevice + " may not be opened", Todo: "read and write access to " + tapDevice}
	}
	return TAP{Reason: tapDevice + ": " + err.Error()}
}
