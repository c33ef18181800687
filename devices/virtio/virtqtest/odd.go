package virtqtest

// odd is what a driver may do and none does, by name. A device answers it or needs
// a reset; either way it costs the host no memory to speak of.
var odd = map[string]func(r *Ring){
	"no bytes":  one(func(_ *Ring, d *Desc) { d.Len = 0 }),
	"one byte":  one(func(_ *Ring, d *Desc) { d.Len = 1 }),
	"no room":   one(func(_ *Ring, d *Desc) { d.Len, d.Flags = 0, Write }),
	"only room": one(func(_ *Ring, d *Desc) { d.Flags = Write }),
	"its own rings as room": one(func(r *Ring, d *Desc) {
		*d = Desc{Addr: r.Desc(), Len: uint32(r.first() - r.start), Flags: Write}
	}),

	"many buffers without bytes": func(r *Ring) { everyHead(r, 0, 0) },
	"many buffers of one byte":   func(r *Ring) { everyHead(r, 1, r.Size/2) },
	"all memory to and fro":      func(r *Ring) { everyHead(r, MemorySize, r.Size/2) },
	"all memory to read":         func(r *Ring) { everyHead(r, MemorySize, r.Size) },
	"all memory to write":        func(r *Ring) { everyHead(r, MemorySize, 0) },
}

// everyHead fills the ring with chains that share their descriptors: the table is
// one long chain of buffers of n bytes at the start of memory, the first readable
// of which are to be read, and each descriptor is the head of the rest.
func everyHead(r *Ring, n uint32, readable uint16) {
	for i := range r.Size {
		d := Desc{Addr: Base, Len: n}
		if i >= readable {
			d.Flags |= Write
		}
		if i < r.Size-1 {
			d.Flags |= Next
			d.Next = i + 1
		}
		r.PutDesc(r.Desc(), i, d)
	}
	for i := range r.Size {
		r.PutAvail(i)
	}
}
