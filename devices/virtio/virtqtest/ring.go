// Package virtqtest is the driver's side of virtio, for tests: queues in guest
// memory of their own, a transport brought to life as Linux does it, and a
// player that drives a device from arbitrary bytes for the fuzzers.
//
// It writes what it is told to, malformed or not.
package virtqtest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"warder/devices/eventfd"
	"warder/devices/guestmem"
	"warder/devices/virtio/virtq"
)

// Base and MemorySize are where a test's guest memory is, in bytes.
const (
	Base       = guestmem.Addr(0x10000)
	MemorySize = 1 << 20
)

// NewMemory is memory of MemorySize at Base.
func NewMemory(t testing.TB) *guestmem.Memory {
	t.Helper()
	m, err := guestmem.Allocate("virtqtest", guestmem.Range{Base: Base, Size: MemorySize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Flags of a descriptor.
const (
	Next     = 1
	Write    = 2
	Indirect = 4
)

// Desc is a descriptor as it stands in memory.
type Desc struct {
	Addr  guestmem.Addr
	Len   uint32
	Flags uint16
	Next  uint16
}

// Buffer is a part of a chain: Data for the device to read, or Room for it to
// write.
type Buffer struct {
	Data []byte
	Room int
}

// Ring is one queue, as its driver has it.
type Ring struct {
	Mem      *guestmem.Memory
	Size     uint16
	EventIdx bool

	start, free, end guestmem.Addr // this ring's part of memory, and what of it is unused
	nextDesc         uint16
	avail            uint16 // index of the next element
	used             uint16 // index of the next element to look at
	rooms            map[uint16][]Desc
}

// descSize is the length of a descriptor in bytes.
const descSize = 16

// NewRing lays a queue out at the start of mem's bytes [from, to), counted from
// Base. The rest of them is for buffers.
func NewRing(mem *guestmem.Memory, size uint16, from, to int) *Ring {
	r := &Ring{Mem: mem, Size: size, start: Base + guestmem.Addr(from), end: Base + guestmem.Addr(to), rooms: map[uint16][]Desc{}}
	r.free = r.first()
	return r
}

// first is where memory for buffers starts.
func (r *Ring) first() guestmem.Addr {
	return (r.Used() + 4 + 8*guestmem.Addr(r.Size) + 2 + 15) &^ 15
}

// Desc is where the descriptor table is.
func (r *Ring) Desc() guestmem.Addr { return r.start }

// Avail is where the available ring is, behind the table.
func (r *Ring) Avail() guestmem.Addr { return r.start + descSize*guestmem.Addr(r.Size) }

// Used is where the used ring is, behind that.
func (r *Ring) Used() guestmem.Addr {
	return (r.Avail() + 4 + 2*guestmem.Addr(r.Size) + 2 + 3) &^ 3
}

// Queue is the device's side of the ring. Notify counts interrupts.
func (r *Ring) Queue(t testing.TB, notify func() error) (*virtq.Queue, *eventfd.Eventfd) {
	t.Helper()
	kick, err := eventfd.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kick.Close() })
	q, err := virtq.New(r.Mem, virtq.Config{
		Size: r.Size, Desc: r.Desc(), Avail: r.Avail(), Used: r.Used(),
		EventIdx: r.EventIdx, Indirect: true, Kick: kick, Notify: notify,
	})
	if err != nil {
		t.Fatal(err)
	}
	return q, kick
}

// must panics on an error of an access by the test itself.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("virtqtest: %v", err))
	}
}

// Alloc is n bytes of the ring's memory for a buffer. When there are none left
// it starts over, as a driver that reuses its buffers does.
func (r *Ring) Alloc(n int) guestmem.Addr {
	if r.free+guestmem.Addr(n) > r.end {
		r.free = r.first()
	}
	if r.free+guestmem.Addr(n) > r.end {
		panic(fmt.Sprintf("virtqtest: no room for %d bytes", n))
	}
	a := r.free
	r.free += guestmem.Addr(n+15) &^ 15
	return a
}

// PutDesc writes descriptor i of the table at addr.
func (r *Ring) PutDesc(table guestmem.Addr, i uint16, d Desc) {
	b := binary.LittleEndian.AppendUint64(nil, uint64(d.Addr))
	b = binary.LittleEndian.AppendUint32(b, d.Len)
	b = binary.LittleEndian.AppendUint16(b, d.Flags)
	b = binary.LittleEndian.AppendUint16(b, d.Next)
	must(r.Mem.WriteAt(b, table+descSize*guestmem.Addr(i)))
}

// PutAvail makes the chain at head available, without a look at whether it is
// one.
func (r *Ring) PutAvail(head uint16) {
	must(r.Mem.StoreUint16(r.Avail()+4+2*guestmem.Addr(r.avail%r.Size), head))
	r.avail++
	r.PutAvailIdx(r.avail)
}

// PutAvailIdx sets the index of the available ring.
func (r *Ring) PutAvailIdx(i uint16) { must(r.Mem.StoreUint16(r.Avail()+2, i)) }

// chain fills a table with a chain of bufs, from descriptor first on, and
// returns the descriptors with room.
func (r *Ring) chain(table guestmem.Addr, first, size uint16, bufs []Buffer) (rooms []Desc) {
	for i, b := range bufs {
		d := Desc{Len: uint32(len(b.Data))}
		if b.Data == nil {
			d.Len, d.Flags = uint32(b.Room), Write
		}
		d.Addr = r.Alloc(int(d.Len))
		if b.Data != nil {
			must(r.Mem.WriteAt(b.Data, d.Addr))
		} else {
			rooms = append(rooms, d)
		}
		at := (first + uint16(i)) % size
		if i < len(bufs)-1 {
			d.Flags |= Next
			d.Next = (at + 1) % size
		}
		r.PutDesc(table, at, d)
	}
	return rooms
}

// Add makes a chain of bufs available and returns its head.
func (r *Ring) Add(bufs ...Buffer) uint16 {
	head := r.nextDesc
	r.rooms[head] = r.chain(r.Desc(), head, r.Size, bufs)
	r.nextDesc = (head + uint16(len(bufs))) % r.Size
	r.PutAvail(head)
	return head
}

// AddIndirect is Add with the chain in an indirect table.
func (r *Ring) AddIndirect(bufs ...Buffer) uint16 {
	table := r.Alloc(len(bufs) * descSize)
	head := r.nextDesc
	r.rooms[head] = r.chain(table, 0, uint16(len(bufs)), bufs)
	r.PutDesc(r.Desc(), head, Desc{Addr: table, Len: uint32(len(bufs) * descSize), Flags: Indirect})
	r.nextDesc = (head + 1) % r.Size
	r.PutAvail(head)
	return head
}

// Answer is what a device gave back of a chain.
type Answer struct {
	Head    uint16
	Written uint32
	Room    []byte // all of the chain's room, one buffer after the other
}

// Take is the next answer, if there is one.
func (r *Ring) Take() (Answer, bool) {
	idx, err := r.Mem.LoadUint16(r.Used() + 2)
	must(err)
	if idx == r.used {
		return Answer{}, false
	}
	elem := r.Used() + 4 + 8*guestmem.Addr(r.used%r.Size)
	head, err := r.Mem.LoadUint32(elem)
	must(err)
	written, err := r.Mem.LoadUint32(elem + 4)
	must(err)
	r.used++
	a := Answer{Head: uint16(head), Written: written}
	for _, d := range r.rooms[a.Head] {
		p := make([]byte, d.Len)
		must(r.Mem.ReadAt(p, d.Addr))
		a.Room = append(a.Room, p...)
	}
	return a, true
}

// WantsKick reports whether the device asked to be kicked for the chain made
// available last.
func (r *Ring) WantsKick() bool {
	if r.EventIdx {
		event, err := r.Mem.LoadUint16(r.Used() + 4 + 8*guestmem.Addr(r.Size))
		must(err)
		return event == r.avail-1
	}
	flags, err := r.Mem.LoadUint16(r.Used())
	must(err)
	return flags&1 == 0
}

// PutUsedEvent asks for an interrupt when used element i is published.
func (r *Ring) PutUsedEvent(i uint16) {
	must(r.Mem.StoreUint16(r.Avail()+4+2*guestmem.Addr(r.Size), i))
}

// PutNoInterrupt sets or clears the flag by which a driver without event indices
// asks for no interrupts.
func (r *Ring) PutNoInterrupt(on bool) {
	var flags uint16
	if on {
		flags = 1
	}
	must(r.Mem.StoreUint16(r.Avail(), flags))
}
