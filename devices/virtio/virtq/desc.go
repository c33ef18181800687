package virtq

import (
	"encoding/binary"

	"warder/devices/guestmem"
)

// Flags of a descriptor, section 2.7.5.
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
	descFlags    = descNext | descWrite | descIndirect
)

type descriptor struct {
	addr  guestmem.Addr
	len   uint32
	flags uint16
	next  uint16
}

// descriptor copies descriptor i of the table at addr, once. i has been checked
// against the table's size.
func (q *Queue) descriptor(table guestmem.Addr, i uint16) (descriptor, error) {
	p, err := q.mem.Slice(table+guestmem.Addr(i)*descSize, descSize)
	if err != nil {
		return descriptor{}, malformed("descriptor %d is not in RAM", i)
	}
	b := [descSize]byte(p) // on the stack, as memory's ReadAt would not have it
	d := descriptor{
		addr:  guestmem.Addr(binary.LittleEndian.Uint64(b[0:])),
		len:   binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint16(b[12:]),
		next:  binary.LittleEndian.Uint16(b[14:]),
	}
	if d.flags&^descFlags != 0 {
		return descriptor{}, malformed("descriptor %d has unknown flags %#x", i, d.flags)
	}
	return d, nil
}

// maxBytes is the most that a chain may have (section 2.7.5.2: "Drivers MUST NOT
// add a descriptor chain longer than 2^32 bytes in total"), less the one byte by
// which a used element could not say so.
const maxBytes = 1<<32 - 1

// walk is the state of reading one chain.
type walk struct {
	q        *Queue
	bufs     [][]byte // first what the device may read, then what it may write
	readable int      // how many of bufs are the first kind
	in, out  int      // bytes of each kind
	writable bool     // a writable descriptor has been seen
}

// chain reads the chain that starts at head into r.
func (q *Queue) chain(head uint16, r *request) (*Chain, error) {
	w := walk{q: q, bufs: r.bufs[:0]}
	if err := w.table(q.cfg.Desc, q.cfg.Size, head, q.cfg.Indirect); err != nil {
		return nil, err
	}
	r.bufs = w.bufs
	r.reader = Reader{buffers{w.bufs[:w.readable:w.readable], w.in, q.cfg.Gate}}
	r.writer = Writer{buffers: buffers{w.bufs[w.readable:], w.out, q.cfg.Gate}}
	r.Chain = Chain{Reader: &r.reader, Writer: &r.writer, head: head, queue: q, whole: r}
	return &r.Chain, nil
}

// table follows the chain from descriptor i of a table with size descriptors.
// Only in the queue's own table may a descriptor refer to an indirect one.
func (w *walk) table(table guestmem.Addr, size, i uint16, mayIndirect bool) error {
	for {
		if i >= size {
			return malformed("descriptor %d of a table of %d", i, size)
		}
		d, err := w.q.descriptor(table, i)
		if err != nil {
			return err
		}
		if d.flags&descIndirect != 0 {
			if !mayIndirect {
				return malformed("descriptor %d is indirect where it must not be", i)
			}
			if d.flags&descNext != 0 {
				return malformed("descriptor %d is indirect and goes on", i)
			}
			return w.indirect(d)
		}
		if err := w.buffer(d, i); err != nil {
			return err
		}
		if d.flags&descNext == 0 {
			return nil
		}
		i = d.next
	}
}

// indirect follows the chain in the table that d refers to. A table may not
// have more descriptors than the queue, section 2.7.5.3.1.
func (w *walk) indirect(d descriptor) error {
	n := d.len / descSize
	if d.len%descSize != 0 || n == 0 || n > uint32(w.q.cfg.Size) {
		return malformed("indirect table of %d bytes in a queue of %d", d.len, w.q.cfg.Size)
	}
	if err := w.q.mem.Check(d.addr, uint64(d.len)); err != nil {
		return malformed("indirect table at %#x is not in RAM", d.addr)
	}
	return w.table(d.addr, uint16(n), 0, false)
}

// buffer adds the buffer of d, the chain's next.
func (w *walk) buffer(d descriptor, i uint16) error {
	if len(w.bufs) == int(w.q.cfg.Size) {
		return malformed("chain longer than the queue's %d descriptors", w.q.cfg.Size)
	}
	b, err := w.q.mem.Slice(d.addr, uint64(d.len))
	if err != nil {
		return malformed("buffer %#x+%#x of descriptor %d is not in RAM", d.addr, d.len, i)
	}
	switch {
	case d.flags&descWrite != 0:
		w.writable = true
		w.out += len(b)
	case w.writable:
		return malformed("readable descriptor %d after a writable one", i)
	default:
		w.readable++
		w.in += len(b)
	}
	if w.in+w.out > maxBytes {
		return malformed("chain of more than %d bytes", uint32(maxBytes))
	}
	if n := len(w.bufs); n == cap(w.bufs) {
		w.bufs = append(make([][]byte, 0, min(2*n, int(w.q.cfg.Size))), w.bufs...)
	}
	w.bufs = append(w.bufs, b)
	return nil
}
