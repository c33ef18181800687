package system

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// powerLine is the line of the PL061 that carries the power button on arm64
// virtual machines.
const powerLine = 3

// The GPIO character device's ABI, version 2, of linux/gpio.h.
type (
	gpioChipInfo struct {
		name, label [32]byte
		lines       uint32
	}
	gpioLineAttribute struct {
		id, _ uint32
		value uint64
	}
	gpioLineConfig struct {
		flags    uint64
		numAttrs uint32
		_        [5]uint32
		attrs    [10]struct {
			attr gpioLineAttribute
			mask uint64
		}
	}
	gpioLineRequest struct {
		offsets         [64]uint32
		consumer        [32]byte
		config          gpioLineConfig
		numLines        uint32
		eventBufferSize uint32
		_               [5]uint32
		fd              int32
	}
)

// The kernel's sizes, at compile time.
var (
	_ [68]byte  = [unsafe.Sizeof(gpioChipInfo{})]byte{}
	_ [272]byte = [unsafe.Sizeof(gpioLineConfig{})]byte{}
	_ [592]byte = [unsafe.Sizeof(gpioLineRequest{})]byte{}
)

const (
	gpioGetChipInfo = 2<<30 | unsafe.Sizeof(gpioChipInfo{})<<16 | 0xb4<<8 | 0x01
	gpioGetLine     = 3<<30 | unsafe.Sizeof(gpioLineRequest{})<<16 | 0xb4<<8 | 0x07

	gpioFlagInput      = 1 << 2
	gpioFlagEdgeRising = 1 << 4

	// lineEventSize is that of struct gpio_v2_line_event.
	lineEventSize = 48
)

var errNoPowerLine = errors.New("no PL061 with a free power line")

// openPowerLine asks for rising edges on the power line of the first PL061. A
// line that a driver holds (gpio-keys) is not free, and then there is a key.
func openPowerLine() (*os.File, error) {
	chips, _ := filepath.Glob("/dev/gpiochip*")
	for _, path := range chips {
		if f, err := openLine(path); err == nil {
			return f, nil
		}
	}
	return nil, errNoPowerLine
}

func openLine(path string) (*os.File, error) {
	chip, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer chip.Close()
	var info gpioChipInfo
	// SAFETY: the kernel fills info, of the size in the request number, and
	// keeps no pointer; the conversion is in the call itself.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, chip.Fd(), gpioGetChipInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return nil, errno
	}
	if !isPL061(unix.ByteSliceToString(info.label[:])) || info.lines <= powerLine {
		return nil, errNoPowerLine
	}
	req := gpioLineRequest{numLines: 1}
	req.offsets[0] = powerLine
	copy(req.consumer[:], "warder power key")
	req.config.flags = gpioFlagInput | gpioFlagEdgeRising
	// SAFETY: as above; the kernel reads req and writes req.fd.
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, chip.Fd(), gpioGetLine, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return nil, errno
	}
	unix.SetNonblock(int(req.fd), true)
	return os.NewFile(uintptr(req.fd), "power line"), nil
}

// isPL061 tells the chip by its label, the name of its device: "9030000.pl061"
// or "9030000.gpio" from a device tree, "ARMH0061:00" from ACPI.
func isPL061(label string) bool {
	return strings.Contains(label, "pl061") || strings.HasSuffix(label, ".gpio") || strings.HasPrefix(label, "ARMH0061")
}
