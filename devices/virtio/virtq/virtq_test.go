package virtq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/devices/eventfd"
	"warder/devices/guestmem"
	"warder/devices/virtio/virtq"
	"warder/devices/virtio/virtqtest"
)

// pair is a ring and the device's side of it.
func pair(t testing.TB, size uint16) (*virtqtest.Ring, *virtq.Queue, *int, *eventfd.Eventfd) {
	r := virtqtest.NewRing(virtqtest.NewMemory(t), size, 0, virtqtest.MemorySize)
	interrupts := new(int)
	q, kick := r.Queue(t, func() error { *interrupts++; return nil })
	return r, q, interrupts, kick
}

func TestChainsComeAndGo(t *testing.T) {
	for _, indirect := range []bool{false, true} {
		r, q, _, _ := pair(t, 8)
		// More chains than the ring has places, and for one kind indices that wrap.
		add, rounds := r.Add, 70000
		if indirect {
			add, rounds = r.AddIndirect, 300
		}
		for round := range rounds {
			sent := []byte{byte(round), byte(round >> 8), 3, 4, 5}
			head := add(virtqtest.Buffer{Data: sent[:2]}, virtqtest.Buffer{Data: sent[2:]}, virtqtest.Buffer{Room: 3}, virtqtest.Buffer{Room: 4})
			c, err := q.Pop()
			if err != nil || c == nil {
				t.Fatal(c, err)
			}
			got, err := io.ReadAll(c.Reader)
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("round %d: read % x (%v), want % x", round, got, err, sent)
			}
			if n, err := c.Writer.Write([]byte("answer")); n != 6 || err != nil || c.Writer.Len() != 1 {
				t.Fatal(n, err, c.Writer.Len())
			}
			if err := q.Push(c, 6); err != nil {
				t.Fatal(err)
			}
			a, ok := r.Take()
			want := virtqtest.Answer{Head: head, Written: 6, Room: []byte("answer\x00")}
			if diff := cmp.Diff(want, a); !ok || diff != "" {
				t.Fatalf("round %d: %v", round, diff)
			}
			if c, err := q.Pop(); c != nil || err != nil {
				t.Fatal("a chain too many", c, err)
			}
			if round > 100 && round < 65500 {
				continue
			}
			if err := q.Push(c, 0); err == nil {
				t.Fatal("a chain could be pushed twice")
			}
		}
	}
}

func TestOutOfOrder(t *testing.T) {
	r, q, _, _ := pair(t, 8)
	var chains []*virtq.Chain
	for i := range 4 {
		r.Add(virtqtest.Buffer{Data: []byte{byte(i)}})
		c, err := q.Pop()
		if err != nil {
			t.Fatal(err)
		}
		chains = append(chains, c)
	}
	var got []uint16
	for _, i := range []int{2, 0, 3, 1} {
		if err := q.Push(chains[i], 0); err != nil {
			t.Fatal(err)
		}
		a, _ := r.Take()
		got = append(got, a.Head)
	}
	if diff := cmp.Diff([]uint16{2, 0, 3, 1}, got); diff != "" {
		t.Error(diff)
	}
}

// TestMalformed breaks each rule of the ring. The queue says so, and stays
// broken.
func TestMalformed(t *testing.T) {
	for name, breakRule := range virtqtest.Malformed {
		t.Run(name, func(t *testing.T) {
			r, q, _, _ := pair(t, 8)
			breakRule(r)
			for range 2 {
				if c, err := q.Pop(); c != nil || !errors.Is(err, virtq.ErrMalformed) {
					t.Fatalf("Pop gave %v, %v", c, err)
				}
			}
			if err := q.Wait(t.Context()); !errors.Is(err, virtq.ErrMalformed) {
				t.Errorf("Wait: %v", err)
			}
		})
	}
}

// TestOverlappingBuffers has one request stand for more bytes than there is
// memory, and for more than a request may.
func TestOverlappingBuffers(t *testing.T) {
	const most = 1<<32/virtqtest.MemorySize - 1 // one more is 2^32 bytes
	for n, ok := range map[uint16]bool{most: true, most + 1: false} {
		r, q, _, _ := pair(t, 8192)
		for i := range n {
			d := virtqtest.Desc{Addr: virtqtest.Base, Len: virtqtest.MemorySize, Flags: virtqtest.Next, Next: i + 1}
			if i >= n/2 {
				d.Flags |= virtqtest.Write
			}
			if i == n-1 {
				d.Flags &^= virtqtest.Next
			}
			r.PutDesc(r.Desc(), i, d)
		}
		r.PutAvail(0)
		c, err := q.Pop()
		if !ok {
			if !errors.Is(err, virtq.ErrMalformed) {
				t.Errorf("%d buffers: %v", n, err)
			}
			continue
		}
		if err != nil || c.Reader.Len()+c.Writer.Len() != most*virtqtest.MemorySize {
			t.Errorf("%d buffers: %v, %v", n, c, err)
		}
	}
}

func TestFillReadsOnce(t *testing.T) {
	r, q, _, _ := pair(t, 8)
	r.Add(virtqtest.Buffer{Room: 4}, virtqtest.Buffer{Room: 4})
	c, err := q.Pop()
	if err != nil {
		t.Fatal(err)
	}
	source := strings.NewReader("abcdefg")
	for _, want := range []int{4, 3} {
		if n, err := c.Writer.Fill(source); n != want || err != nil {
			t.Errorf("filled %d (%v), want %d", n, err, want)
		}
	}
	if n, err := c.Writer.Fill(source); n != 0 || !errors.Is(err, io.EOF) || c.Writer.Len() != 1 {
		t.Errorf("filled %d (%v) at the end, room for %d left", n, err, c.Writer.Len())
	}
	if _, err := c.Writer.Write([]byte("h")); err != nil {
		t.Error(err)
	}
	if n, err := c.Writer.Fill(source); n != 0 || err != nil {
		t.Errorf("filled %d (%v) where there is no room", n, err)
	}
	if err := q.Push(c, uint32(c.Writer.Written())); err != nil {
		t.Fatal(err)
	}
	if a, _ := r.Take(); string(a.Room) != "abcdefgh" {
		t.Errorf("the room holds %q", a.Room)
	}
}

func TestHeadInUse(t *testing.T) {
	r, q, _, _ := pair(t, 8)
	head := r.Add(virtqtest.Buffer{Data: []byte{1}})
	if _, err := q.Pop(); err != nil {
		t.Fatal(err)
	}
	r.PutAvail(head)
	if _, err := q.Pop(); !errors.Is(err, virtq.ErrMalformed) {
		t.Errorf("a head that is in use was taken again: %v", err)
	}
}

func TestQueueRefusesItsPlace(t *testing.T) {
	mem := virtqtest.NewMemory(t)
	good := virtq.Config{Size: 8, Desc: virtqtest.Base, Avail: virtqtest.Base + 0x100, Used: virtqtest.Base + 0x200}
	if _, err := virtq.New(mem, good); err != nil {
		t.Fatal(err)
	}
	end := virtqtest.Base + virtqtest.MemorySize
	for name, spoil := range map[string]func(*virtq.Config){
		"no size":            func(c *virtq.Config) { c.Size = 0 },
		"size 3":             func(c *virtq.Config) { c.Size = 3 },
		"unaligned desc":     func(c *virtq.Config) { c.Desc += 8 },
		"unaligned avail":    func(c *virtq.Config) { c.Avail++ },
		"unaligned used":     func(c *virtq.Config) { c.Used += 2 },
		"desc outside":       func(c *virtq.Config) { c.Desc = end - 16*8 + 16 },
		"avail outside":      func(c *virtq.Config) { c.Avail = end - 20 },
		"used outside":       func(c *virtq.Config) { c.Used = end - 68 },
		"desc at the top":    func(c *virtq.Config) { c.Desc = math.MaxUint64 - 15 },
		"avail below memory": func(c *virtq.Config) { c.Avail = 0 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := virtq.New(mem, cfg); !errors.Is(err, virtq.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInterruptsAsAsked(t *testing.T) {
	answer := func(r *virtqtest.Ring, q *virtq.Queue) {
		r.Add(virtqtest.Buffer{Data: []byte{1}})
		c, err := q.Pop()
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Push(c, 0); err != nil {
			t.Fatal(err)
		}
	}
	r, q, n, _ := pair(t, 8)
	answer(r, q)
	r.PutNoInterrupt(true)
	answer(r, q)
	r.PutNoInterrupt(false)
	answer(r, q)
	if *n != 2 {
		t.Errorf("by flags: %d interrupts, want 2", *n)
	}

	r = virtqtest.NewRing(virtqtest.NewMemory(t), 8, 0, virtqtest.MemorySize)
	r.EventIdx = true
	got := 0
	q, _ = r.Queue(t, func() error { got++; return nil })
	r.PutUsedEvent(2) // interrupt with the third answer
	for i, want := range []int{0, 0, 1, 1} {
		answer(r, q)
		if got != want {
			t.Errorf("by event index: %d interrupts after answer %d, want %d", got, i, want)
		}
	}
}

// TestNoWakeupIsLost has both sides sleep whenever there is nothing for them, and
// rely on being woken as they asked. A wake-up that is lost stops the test.
func TestNoWakeupIsLost(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		t.Run(fmt.Sprintf("EventIdx=%v", eventIdx), func(t *testing.T) {
			r := virtqtest.NewRing(virtqtest.NewMemory(t), 8, 0, virtqtest.MemorySize)
			r.EventIdx = eventIdx
			interrupts := make(chan struct{}, 1)
			q, kick := r.Queue(t, func() error {
				select {
				case interrupts <- struct{}{}:
				default:
				}
				return nil
			})
			const n, batch = 4000, 4
			done := make(chan error, 1)
			go func() { done <- answer(t.Context(), q, n) }()
			kicks := 0
			for taken := 0; taken < n; {
				for range batch {
					r.Add(virtqtest.Buffer{Data: []byte{1}})
					if r.WantsKick() {
						kicks++
						if err := kick.Signal(); err != nil {
							t.Fatal(err)
						}
					}
				}
				for batchEnd := taken + batch; taken < batchEnd; {
					r.PutUsedEvent(uint16(taken)) // before the look, so that what comes after it interrupts
					if _, ok := r.Take(); ok {
						taken++
						continue
					}
					select {
					case <-interrupts:
					case <-time.After(time.Minute):
						t.Fatalf("neither an answer nor an interrupt after %d answers", taken)
					}
				}
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if kicks == 0 || kicks > n {
				t.Errorf("%d kicks for %d chains", kicks, n)
			}
		})
	}
}

// answer is a device that answers n chains.
func answer(ctx context.Context, q *virtq.Queue, n int) error {
	for range n {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		if err := q.Push(c, 0); err != nil {
			return err
		}
	}
	return nil
}

func TestWaitEndsWithContext(t *testing.T) {
	_, q, _, _ := pair(t, 8)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// shortFile is a disk that ends, and a writer that fails, after 10 bytes.
type shortFile struct{}

func (shortFile) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(10-off, 0))
	for i := range n {
		p[i] = byte(off + i)
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (shortFile) WriteAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(10-off, 0))
	if n < int64(len(p)) {
		return int(n), os.ErrInvalid
	}
	return int(n), nil
}

func TestCopyAndSplit(t *testing.T) {
	r, q, _, _ := pair(t, 8)
	r.Add(virtqtest.Buffer{Data: []byte("abcdefgh")}, virtqtest.Buffer{Data: []byte("ijkl")},
		virtqtest.Buffer{Room: 4}, virtqtest.Buffer{Room: 8}, virtqtest.Buffer{Room: 1})
	c, err := q.Pop()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := c.Reader.Skip(2); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Reader.CopyAt(file, 100, 7); n != 7 || err != nil || c.Reader.Len() != 3 {
		t.Errorf("copied %d (%v), %d left", n, err, c.Reader.Len())
	}
	got := make([]byte, 7)
	if _, err := file.ReadAt(got, 100); err != nil || string(got) != "cdefghi" {
		t.Errorf("the file holds %q (%v)", got, err)
	}
	if err := c.Reader.Skip(4); !errors.Is(err, virtq.ErrShort) {
		t.Errorf("skipped past the end: %v", err)
	}

	status := c.Writer.SplitTail(3)
	if status == nil || status.Len() != 3 || c.Writer.Len() != 10 || c.Writer.SplitTail(11) != nil || c.Writer.SplitTail(-1) != nil {
		t.Fatalf("split into %d and %v", c.Writer.Len(), status)
	}
	if n, err := c.Writer.CopyAt(shortFile{}, 0, 10); n != 10 || err != nil {
		t.Errorf("copied %d (%v)", n, err)
	}
	if _, err := c.Writer.Write([]byte{1}); !errors.Is(err, virtq.ErrShort) {
		t.Errorf("wrote past the room: %v", err)
	}
	if _, err := status.Write([]byte("end")); err != nil {
		t.Error(err)
	}
	if err := q.Push(c, uint32(c.Writer.Written()+status.Written())); err != nil {
		t.Fatal(err)
	}
	a, _ := r.Take()
	if want := append([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "end"...); !bytes.Equal(a.Room, want) || a.Written != 13 {
		t.Errorf("the room holds % x, %d written", a.Room, a.Written)
	}

	r.Add(virtqtest.Buffer{Data: make([]byte, 16)}, virtqtest.Buffer{Room: 16})
	if c, err = q.Pop(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Writer.CopyAt(shortFile{}, 0, 16); n != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of a file of 10 bytes %d were copied (%v)", n, err)
	}
	if n, err := c.Reader.CopyAt(shortFile{}, 0, 16); n != 10 || !errors.Is(err, os.ErrInvalid) {
		t.Errorf("to a file of 10 bytes %d were copied (%v)", n, err)
	}
}

// FuzzQueue lets the driver write anything into the rings and checks what every
// device relies on.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 2, 0, 0, 0x10, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0})
	f.Add(bytes.Repeat([]byte{1, 0, 0xff}, 40))
	f.Fuzz(func(t *testing.T, program []byte) {
		const size = 8
		r, q, _, _ := pair(t, size)
		next := func() uint16 {
			if len(program) == 0 {
				return 0
			}
			b := program[0]
			program = program[1:]
			return uint16(b)
		}
		outstanding := map[*virtq.Chain]bool{}
		for len(program) > 0 {
			switch next() % 5 {
			case 0:
				r.PutDesc(r.Desc(), next()%size, virtqtest.Desc{
					Addr: guestmem.Addr(next())<<12 | guestmem.Addr(next()), Len: uint32(next())<<next() | uint32(next()),
					Flags: next() & 15, Next: next(),
				})
			case 1:
				r.PutAvail(next())
			case 2:
				r.PutAvailIdx(next())
			case 3:
				c, err := q.Pop()
				if err != nil || c == nil {
					continue
				}
				outstanding[c] = true
				if len(outstanding) > size {
					t.Fatalf("%d chains outstanding", len(outstanding))
				}
				if most := size * virtqtest.MemorySize; c.Reader.Len() > most || c.Writer.Len() > most {
					t.Fatalf("a chain of %d and %d bytes", c.Reader.Len(), c.Writer.Len())
				}
			case 4:
				for c := range outstanding {
					n, err := io.Copy(io.Discard, c.Reader)
					if err != nil {
						t.Fatal(err)
					}
					if err := q.Push(c, uint32(n)); err != nil {
						t.Fatal(err)
					}
					delete(outstanding, c)
					break
				}
			}
		}
	})
}

// BenchmarkPopPush is what a chain of two buffers costs the device. The driver's
// part of it is two atomic stores.
func BenchmarkPopPush(b *testing.B) {
	for _, eventIdx := range []bool{false, true} {
		b.Run(fmt.Sprintf("EventIdx=%v", eventIdx), func(b *testing.B) {
			r := virtqtest.NewRing(virtqtest.NewMemory(b), 256, 0, virtqtest.MemorySize)
			r.EventIdx = eventIdx
			q, _ := r.Queue(b, func() error { b.Error("interrupted"); return nil })
			r.PutNoInterrupt(true)
			head := r.Add(virtqtest.Buffer{Data: []byte{1}}, virtqtest.Buffer{Room: 8})
			b.ReportAllocs()
			for i := uint16(1); b.Loop(); i++ {
				c, err := q.Pop()
				if err != nil {
					b.Fatal(err)
				}
				r.PutUsedEvent(i + 100)
				if err := q.Push(c, 8); err != nil {
					b.Fatal(err)
				}
				r.PutAvail(head)
			}
		})
	}
}
