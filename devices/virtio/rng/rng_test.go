package rng_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"warder/devices/virtio/rng"
	"warder/devices/virtio/virtqtest"
)

func TestFillsTheRoom(t *testing.T) {
	source := bytes.Repeat([]byte("randomness"), 10000)
	d := virtqtest.NewDriver(t, rng.New(bytes.NewReader(source)))
	d.Start(0)
	for _, c := range []struct{ room, want int }{{16, 16}, {1, 1}, {4096, 4096}, {10000, 4096}} {
		d.Rings[0].Add(virtqtest.Buffer{Room: c.room})
		a := d.Answer(0)
		if int(a.Written) != c.want || !bytes.Equal(a.Room[:a.Written], source[:c.want]) {
			t.Errorf("room for %d: %d written", c.room, a.Written)
		}
		source = source[c.want:]
	}
}

func TestSourceFails(t *testing.T) {
	d := virtqtest.NewDriver(t, rng.New(io.MultiReader(failing{})))
	d.Start(0)
	d.Rings[0].Add(virtqtest.Buffer{Room: 8})
	d.Kick(0)
	d.NeedsReset()
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 8, 0x80, 0, 0, 2, 8, 9})
	f.Fuzz(func(t *testing.T, program []byte) {
		d := virtqtest.Play(t, rng.New(rand.Reader), program)
		d.Rings[0].Add(virtqtest.Buffer{Room: 16})
		if a := d.Answer(0); a.Written != 16 {
			t.Errorf("afterwards it gives %d bytes", a.Written)
		}
	})
}
