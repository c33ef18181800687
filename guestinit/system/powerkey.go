package system

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Codes of linux/input-event-codes.h.
const (
	evKey    = 1
	keyPower = 116
)

// inputEventSize is that of struct input_event on 64-bit machines: a timeval
// (16 bytes), type (2), code (2), value (4).
const inputEventSize = 24

// WatchPowerKey calls pressed, once, when the machine's power button is
// pressed: the KEY_POWER of any input device, or the GPIO line that carries
// the button where the kernel has no driver to make a key of it. It returns
// when ctx ends or the key was pressed.
func WatchPowerKey(ctx context.Context, pressed func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	var watchers sync.WaitGroup
	watch := func(f *os.File, wait func(io.Reader) error) {
		stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
		watchers.Go(func() {
			defer f.Close()
			defer stop()
			if wait(f) == nil {
				once.Do(pressed)
				cancel()
			}
		})
	}
	inputs, _ := filepath.Glob("/dev/input/event*")
	for _, path := range inputs {
		if f, err := os.Open(path); err == nil {
			watch(f, waitKey)
		}
	}
	if f, err := openPowerLine(); err == nil {
		watch(f, waitEdge)
	}
	watchers.Wait()
	<-ctx.Done()
}

// waitKey reads input events until KEY_POWER goes down.
func waitKey(r io.Reader) error {
	var b [inputEventSize]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return err
		}
		if isPowerKey(b[:]) {
			return nil
		}
	}
}

func isPowerKey(event []byte) bool {
	return binary.NativeEndian.Uint16(event[16:]) == evKey &&
		binary.NativeEndian.Uint16(event[18:]) == keyPower &&
		binary.NativeEndian.Uint32(event[20:]) == 1
}

// waitEdge reads one GPIO line event, of which only an edge was asked for.
func waitEdge(r io.Reader) error {
	var b [lineEventSize]byte
	_, err := io.ReadFull(r, b[:])
	return err
}
