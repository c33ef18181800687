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

// A table is one of descriptors, in guest memory.
type table []byte

func (t table) size() int { return len(t) / descSize }

// descriptor copies descriptor i, which the table has, once.
func (t table) descriptor(i uint16) descriptor {
	b := [descSize]byte(t[int(i)*descSize:])
	return descriptor{
		addr:  guestmem.Addr(binary.LittleEndian.Uint64(b[0:])),
		len:   binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint16(b[12:]),
		next:  binary.LittleEndian.Uint16(b[14:]),
	}
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
	if err := q.desc.Check(); err != nil {
		return nil, err
	}
	w := walk{q: q, bufs: r.bufs[:0]}
	if err := w.chain(q.desc.Bytes(), head, q.cfg.Indirect); err != nil {
		return nil, err
	}
	r.bufs = w.bufs
	r.reader.bufs, r.reader.left = w.bufs[:w.readable:w.readable], w.in
	r.writer.bufs, r.writer.left, r.writer.written = w.bufs[w.readable:], w.out, 0
	r.head, r.queue = head, q
	return &r.Chain, nil
}

// chain follows the chain from descriptor i of a table. Only in the queue's own table may
// a descriptor refer to an indirect one.
func (w *walk) chain(t table, i uint16, mayIndirect bool) error {
	for {
		if int(i) >= t.size() {
			return malformed("descriptor %d of a table of %d", i, t.size())
		}
		d := t.descriptor(i)
		if d.flags&^descFlags != 0 {
			return malformed("descriptor %d has unknown flags %#x", i, d.flags)
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
	t, err := w.q.mem.Slice(d.addr, uint64(d.len))
	if err != nil {
		return malformed("indirect table at %#x is not in RAM", d.addr)
	}
	return w.chain(t, 0, false)
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
