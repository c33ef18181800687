package trap

import (
	"warder/secmon/event"
	"warder/secmon/syscalls"
)

// Bounds of what is read of a call's memory. What is left out is marked.
const (
	maxStrings = 512      // of argv and envp
	maxText    = 16 << 10 // bytes of all strings of one list
	maxPieces  = 64       // of a vector, beyond what writes to a share need
	maxAddress = 128      // struct sockaddr_storage
	maxPoll    = 64
	maxStruct  = 256
)

// data reads what parameter n points to, by its kind.
func (d *decoder) data(n int, p syscalls.Param) {
	at := d.value(n)
	if at == 0 {
		return
	}
	length := uint64(0)
	if p.Length >= 0 {
		length = d.value(p.Length)
	}
	switch p.Kind {
	case syscalls.Str:
		if !d.string(n) {
			d.missing(event.MissingData)
		}
	case syscalls.Argv, syscalls.Envp:
		d.strings(n)
	case syscalls.SockAddr:
		d.bytes(n, at, min(length, maxAddress))
	case syscalls.Buf:
		d.bytes(n, at, min(length, uint64(max(d.armed.wants.data, 0))))
	case syscalls.IOV:
		if buf, ok := d.pieces(nil, at, length); ok {
			d.set(n, buf)
		}
	case syscalls.MsgHdr:
		d.message(n, at)
	case syscalls.Timespec:
		d.bytes(n, at, 2*d.word())
	case syscalls.SigAction:
		d.bytes(n, at, 4*d.word())
	case syscalls.OpenHow, syscalls.CloneArgs:
		d.bytes(n, at, min(length, maxStruct))
	case syscalls.PollFDs:
		const size = 8
		d.bytes(n, at, size*min(length, maxPoll))
	}
}

// word is the size of a word of the program that made the call.
func (d *decoder) word() uint64 {
	if d.abi.Compat() {
		return 4
	}
	return 8
}

func (d *decoder) set(n int, data []byte) {
	c := &d.event.Call
	c.Data[n], c.Read = d.task.Interned(data), c.Read|1<<n
}

func (d *decoder) bytes(n int, at, size uint64) {
	whole := false
	d.buf, whole = d.read(d.buf[:0], at, size)
	if !whole {
		d.missing(event.MissingData)
		if len(d.buf) == 0 {
			return
		}
	}
	d.set(n, d.buf)
}

// read appends size bytes from at to buf, page by page, and says whether all of
// them were there.
func (d *decoder) read(buf []byte, at, size uint64) ([]byte, bool) {
	const page = 4096
	for size > 0 {
		part := min(size, page-at%page)
		from := len(buf)
		buf = append(buf, make([]byte, part)...)
		if err := d.task.Read(buf[from:], at); err != nil {
			return buf[:from], false
		}
		at, size = at+part, size-part
	}
	return buf, true
}

// array reads count words from at, fewer where the memory ends. It is good until
// the next array is read.
func (d *decoder) array(at, count uint64) []uint64 {
	w := d.word()
	d.buf, _ = d.read(d.buf[:0], at, count*w)
	d.words = d.words[:0]
	for p := d.buf; uint64(len(p)) >= w; p = p[w:] {
		if w == 4 {
			d.words = append(d.words, uint64(le.Uint32(p)))
		} else {
			d.words = append(d.words, le.Uint64(p))
		}
	}
	return d.words
}

// strings reads the list of strings in parameter n, which ends with a nil
// pointer.
func (d *decoder) strings(n int) {
	at := d.value(n)
	if at == 0 {
		return
	}
	const chunk = 32 // a list's last words may be the last ones of its page
	var text []byte
	for count := 0; ; {
		if count >= maxStrings {
			d.missing(event.MissingData)
			break
		}
		all := d.array(at+uint64(count)*d.word(), chunk)
		for _, p := range all {
			if p == 0 {
				d.set(n, text)
				return
			}
			s, err := d.task.String(p)
			if err != nil || len(text)+len(s) >= maxText {
				d.missing(event.MissingData)
				d.set(n, text)
				return
			}
			text = append(append(text, s...), 0)
			count++
		}
		if len(all) == 0 {
			d.missing(event.MissingData)
			break
		}
	}
	if len(text) > 0 {
		d.set(n, text)
	}
}

// pieces appends what a vector of buffers at an address holds to what Data says
// of it.
func (d *decoder) pieces(data []byte, at, count uint64) ([]byte, bool) {
	return d.filled(data, at, count, 1<<63)
}

// filled is pieces of which only the first bytes, all pieces together, hold
// something.
func (d *decoder) filled(data []byte, at, count, size uint64) ([]byte, bool) {
	if count > maxPieces {
		count = maxPieces
		d.missing(event.MissingData)
	}
	vectors, ok := d.vectors(at, count)
	if !ok {
		d.missing(event.MissingData)
		return nil, false
	}
	left := uint64(max(d.armed.wants.data, 0))
	for _, v := range vectors {
		held := min(v.size, size)
		size -= held
		buf, whole := d.read(nil, v.base, min(held, left))
		if !whole {
			d.missing(event.MissingData)
		}
		left -= uint64(len(buf))
		data = syscalls.AppendPiece(data, v.size, buf)
	}
	return data, true
}

// message reads a struct msghdr: include/linux/socket.h. Its members are words
// but for the length of the name.
func (d *decoder) message(n int, at uint64) { d.received(n, at, 1<<63) }

// received is message of which only so many bytes hold something.
func (d *decoder) received(n int, at, held uint64) {
	h := d.array(at, 4)
	if len(h) < 4 {
		d.missing(event.MissingData)
		return
	}
	name, size, vector, count := h[0], uint64(uint32(h[1])), h[2], h[3]
	var address []byte
	if name != 0 {
		whole := false
		if address, whole = d.read(nil, name, min(size, maxAddress)); !whole {
			d.missing(event.MissingData)
		}
	}
	if buf, ok := d.filled(syscalls.AppendMessage(nil, address), vector, count, held); ok {
		d.set(n, buf)
	}
}
