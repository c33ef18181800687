package trap

import (
	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
)

// A vector is where a write takes its bytes from.
type vector struct {
	base, size uint64
}

func (d *decoder) write() {
	d.put()
	if d.open {
		d.offset(d.file)
	}
	d.payload([]vector{{d.value(1), d.value(2)}})
}

func (d *decoder) pwrite() {
	c := &d.event.Call
	if d.open {
		// Linux appends even so (pwrite(2), BUGS).
		d.offset(d.file)
		if !c.Append {
			c.Offset = int64(d.value(3))
		}
	}
	d.payload([]vector{{d.value(1), d.value(2)}})
}

// maxVectors is how many pieces of a writev are read; Linux takes 1024.
const maxVectors = 1024

func (d *decoder) writev() {
	d.put()
	if d.open {
		d.offset(d.file)
	}
	d.payloadVectors()
}

func (d *decoder) pwritev() {
	const appends = 0x10 // RWF_APPEND
	d.put()
	c := &d.event.Call
	// The offset comes in two halves, of which a 64-bit kernel needs one.
	at := int64(c.Args[3])
	if d.abi.Compat() {
		at |= int64(c.Args[4]) << 32
	}
	if d.open {
		f := d.file
		if d.flags("rwf")&appends != 0 {
			f.Flags |= unix.O_APPEND
		}
		// -1 is the file's own offset.
		if d.offset(f); !c.Append && (c.Name == "pwritev" || at != -1) {
			c.Offset = at
		}
	}
	d.payloadVectors()
}

func (d *decoder) payloadVectors() {
	vectors, ok := d.vectors(d.value(1), min(d.value(2), maxVectors))
	if !ok {
		d.missing(event.MissingPayload)
		return
	}
	d.payload(vectors)
}

// vectors reads an array of struct iovec.
func (d *decoder) vectors(at, count uint64) ([]vector, bool) {
	words := d.array(at, 2*count)
	if uint64(len(words)) < 2*count {
		return nil, false
	}
	all := make([]vector, count)
	for i := range all {
		all[i] = vector{words[2*i], words[2*i+1]}
	}
	return all, true
}

// offset says where in the file a write goes.
func (d *decoder) offset(f introspect.File) {
	c := &d.event.Call
	if c.Append = f.Flags&unix.O_APPEND != 0; !c.Append {
		c.Offset = f.Pos
		return
	}
	// The guest's idea of a share's file can be out of date, the host's is not.
	if c.Offset = f.Size; c.File.Share != "" && c.File.Size >= 0 {
		c.Offset = c.File.Size
	}
}

// maxWrite is the most that Linux writes in one call (MAX_RW_COUNT).
const maxWrite = 0x7ffff000

// payload adds up what is written and reads the start of it, if it goes to a
// share.
func (d *decoder) payload(from []vector) {
	c := &d.event.Call
	for _, v := range from {
		c.Size += min(v.size, maxWrite-c.Size)
	}
	if c.File.Share == "" {
		return
	}
	want := min(c.Size, uint64(max(d.armed.wants.payload, 0)))
	for _, v := range from {
		whole := false
		c.Payload, whole = d.read(c.Payload, v.base, min(v.size, want-uint64(len(c.Payload))))
		if !whole {
			d.missing(event.MissingPayload)
			return
		}
	}
}

// special is what is read of calls beyond their parameters.
var special = map[string]func(*decoder){
	"write": (*decoder).write, "pwrite64": (*decoder).pwrite, "writev": (*decoder).writev,
	"pwritev": (*decoder).pwritev, "pwritev2": (*decoder).pwritev,
	"connect": (*decoder).connect, "bind": (*decoder).bind, "sendto": (*decoder).send, "sendmsg": (*decoder).send, "send": (*decoder).send, "sendmmsg": (*decoder).send,
	"sendfile": (*decoder).put, "sendfile64": (*decoder).put, "read": (*decoder).get, "readv": (*decoder).get, "preadv2": (*decoder).get,
	"recvfrom": (*decoder).receive, "recvmsg": (*decoder).receive, "recv": (*decoder).receive, "recvmmsg": (*decoder).receive, "recvmmsg_time64": (*decoder).receive,
	"accept": (*decoder).accept, "accept4": (*decoder).accept, "listen": (*decoder).accept,
}
