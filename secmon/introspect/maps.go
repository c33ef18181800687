package introspect

import (
	"context"
	"fmt"
)

// MapInfo is a range of a process's addresses, as /proc/PID/maps shows it.
type MapInfo struct {
	Start  Pointer `json:"start"`
	End    Pointer `json:"end"`
	Perms  string  `json:"perms"`
	Offset uint64  `json:"offset"` // in the file
	Device string  `json:"device"`
	Inode  uint64  `json:"inode"`
	Name   string  `json:"name,omitempty"`
}

// maxMaps is four times Linux' default, vm.max_map_count.
const maxMaps = 1 << 18

// Maps lists the memory map of a process.
func (l *Live) Maps(ctx context.Context, pid int) ([]MapInfo, error) {
	q := l.ask(ctx)
	t, err := q.find(pid)
	if err != nil {
		return nil, err
	}
	var all []MapInfo
	q.again(func() {
		all = all[:0]
		mm := t.to("mm", "mm_struct")
		if q.err != nil || mm.isNil() { // a kernel thread has none
			return
		}
		q.areas(mm, func(vma object) {
			all = append(all, q.area(mm, vma))
		})
	})
	if err := q.take(); err != nil {
		return nil, fmt.Errorf("introspect: memory map of process %d: %w", pid, err)
	}
	return all, nil
}

// Bits of vm_flags (include/linux/mm.h).
const (
	vmRead, vmWrite, vmExec, vmShared = 1, 2, 4, 8

	vmMayShare = 0x80
)

func (q *question) area(mm, vma object) MapInfo {
	m := MapInfo{Start: Pointer(vma.uint("vm_start")), End: Pointer(vma.uint("vm_end")), Device: "0:0"}
	flags := vma.uint("vm_flags")
	perms := []byte("---p")
	for i, f := range []struct {
		bit  uint64
		name byte
	}{{vmRead, 'r'}, {vmWrite, 'w'}, {vmExec, 'x'}, {vmMayShare, 's'}} {
		if flags&f.bit != 0 {
			perms[i] = f.name
		}
	}
	m.Perms = string(perms)
	file := vma.to("vm_file", "file")
	if q.err != nil {
		return m
	}
	if !file.isNil() {
		inode := file.to("f_inode", "inode")
		dev := inode.to("i_sb", "super_block").uint("s_dev")
		m.Inode, m.Device = inode.uint("i_ino"), fmt.Sprintf("%d:%d", dev>>20, dev&0xfffff)
		m.Offset = vma.uint("vm_pgoff") * q.live.space.Granule()
		if q.err == nil {
			name, _, err := q.fileName(file, m.Inode)
			if m.Name = q.keep(name); err != nil {
				q.fail(err)
			}
		}
		return m
	}
	within := func(at uint64) bool { return at >= uint64(m.Start) && at < uint64(m.End) }
	brk := mm.uint("brk")
	switch start := mm.uint("start_brk"); {
	case uint64(m.Start) < brk && uint64(m.End) > start:
		m.Name = "[heap]"
	case within(mm.uint("start_stack")):
		m.Name = "[stack]"
	case q.has("mm_struct.context.vdso") && uint64(m.Start) == mm.uint("context.vdso"):
		m.Name = "[vdso]"
	}
	return m
}

// areas walks the areas of an address space: a list up to Linux 6.0, a maple
// tree since.
func (q *question) areas(mm object, add func(vma object)) {
	if q.has("mm_struct.mmap") {
		next := q.at("vm_area_struct", 0).field("vm_next").off
		for vma := range q.chain(mm.uint("mmap"), maxMaps, func(at uint64) uint64 { return q.word(at + next) }) {
			add(q.at("vm_area_struct", vma))
		}
		return
	}
	m := mapleWalk{q: q, left: 2 * maxMaps, add: func(entry uint64) { add(q.at("vm_area_struct", entry)) }}
	root := mm.in("mm_mt", "maple_tree").uint("ma_root")
	if q.err != nil {
		return
	}
	if root&3 == 2 && root > 4096 {
		m.node(root, ^uint64(0), maxLevels)
	} else if root != 0 {
		m.add(root)
	}
}

// mapleWalk walks a maple tree (include/linux/maple_tree.h): nodes of 256 bytes,
// whose pointers have the kind of node in bits 3 to 6.
type mapleWalk struct {
	q    *question
	left int // nodes and entries
	add  func(entry uint64)
}

const (
	mapleNodeSize = 256
	mapleLeaf     = 1
	mapleRange    = 2
	mapleAlloc    = 3
)

func (m *mapleWalk) node(entry, most uint64, levels int) {
	q := m.q
	typ, leaf := "maple_range_64", false
	switch entry >> 3 & 0xf {
	case mapleLeaf:
		leaf = true
	case mapleRange:
	case mapleAlloc:
		typ = "maple_arange_64"
	default:
		q.fail(fmt.Errorf("%w: a node of an unknown kind in a memory map", ErrWalk))
	}
	node := q.at(typ, entry&^(mapleNodeSize-1))
	pivots, slots := node.field("pivot"), node.field("slot")
	var p [mapleNodeSize]byte
	q.memory(p[:], node.addr)
	if m.left--; levels == 0 || m.left < 0 {
		q.fail(fmt.Errorf("%w: a memory map that does not end", ErrWalk))
	}
	if q.err != nil || slots.off+slots.size > mapleNodeSize || pivots.off+pivots.size > mapleNodeSize {
		return
	}
	for i := uint64(0); i < slots.size/8 && q.err == nil; i++ {
		end := most
		if i < pivots.size/8 {
			if pivot := le.Uint64(p[pivots.off+8*i:]); pivot != 0 || i == 0 {
				end = min(pivot, most)
			}
		}
		if slot := le.Uint64(p[slots.off+8*i:]); slot != 0 && leaf {
			if m.left--; m.left < 0 {
				q.fail(fmt.Errorf("%w: a memory map that does not end", ErrWalk))
				return
			}
			if slot&3 == 0 { // else something that is being put in place
				m.add(slot)
			}
		} else if slot != 0 {
			m.node(slot, end, levels-1)
		}
		if end == most {
			return
		}
	}
}
