package vmm_test

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
)

// Commands of SIOCETHTOOL, linux/ethtool.h.
const (
	ethtoolSetRxCsum   = 0x15
	ethtoolSetTxCsum   = 0x17
	ethtoolSetTSO      = 0x1f
	ethtoolSetGSO      = 0x24
	ethtoolSetFlags    = 0x26
	ethtoolSetGRO      = 0x2c
	ethtoolSetChannels = 0x3d
)

// ethtool gives the interface a command of struct ethtool_value, or of
// ethtool_channels, whose last words are zero but for the number of combined ones.
func ethtool(g *testguest.Guest, name string, command, value uint32) {
	arg := [9]uint32{command, value}
	if command == ethtoolSetChannels {
		arg = [9]uint32{command, 8: value}
	}
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifr.name[:], name)
	// SAFETY: arg outlives the call and is as long as the longer of the structs.
	ifr.data = unsafe.Pointer(&arg)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	g.Check(err)
	defer unix.Close(fd)
	// SAFETY: ifr is a struct ifreq, which the kernel reads, with what it points to.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
	if errno != 0 {
		g.Fatal("ethtool command ", command, ": ", errno)
	}
}
