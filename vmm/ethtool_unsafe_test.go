//go:build soak

package vmm_test

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
)

// Commands of SIOCETHTOOL, linux/ethtool.h.
const (
	ethtoolSetTxCsum   = 0x17
	ethtoolStrings     = 0x1b
	ethtoolSetTSO      = 0x1f
	ethtoolSetFeatures = 0x3b
	ethtoolSetChannels = 0x3d

	featureNames = 4 // ETH_SS_FEATURES
	nameSize     = 32
)

// ethtool gives the interface a command with what follows it, and returns both as the
// kernel leaves them.
func ethtool(g *testguest.Guest, name string, command uint32, words ...uint32) []byte {
	arg := make([]byte, 16<<10) // more than any answer
	binary.NativeEndian.PutUint32(arg, command)
	for i, w := range words {
		binary.NativeEndian.PutUint32(arg[4+4*i:], w)
	}
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifr.name[:], name)
	// SAFETY: arg outlives the call and is on the heap, for its size.
	ifr.data = unsafe.Pointer(unsafe.SliceData(arg))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	g.Check(err)
	defer unix.Close(fd)
	// SAFETY: ifr is a struct ifreq, which the kernel reads, with what it points to.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
	if errno != 0 {
		g.Fatal("ethtool command ", command, ": ", errno)
	}
	return arg
}

// setFeature switches a feature of the interface, by ethtool's name for it.
func setFeature(g *testguest.Guest, name, feature string, on bool) {
	answer := ethtool(g, name, ethtoolStrings, featureNames)
	n := binary.NativeEndian.Uint32(answer[8:])
	for i := range n {
		s := answer[12+nameSize*i:][:nameSize]
		if string(bytes.TrimRight(s, "\x00")) != feature {
			continue
		}
		blocks := (n + 31) / 32
		words := make([]uint32, 1+2*blocks) // then, for 32 features each, which to change, and how
		words[0] = blocks
		words[1+i/32*2] = 1 << (i % 32)
		if on {
			words[2+i/32*2] = 1 << (i % 32)
		}
		ethtool(g, name, ethtoolSetFeatures, words...)
		return
	}
	g.Fatal("no feature ", feature, " in this kernel")
}
