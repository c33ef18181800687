// Package diskimage finds the root file system in the image of a disk.
//
// That is all of the image, or a partition of a GPT (UEFI specification 2.10, chapter 5)
// or of an MBR. Which one is meant says its number, or the type that the Discoverable
// Partitions Specification has for roots, or that there is only one that it can be.
package diskimage

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Root is where a root file system is in an image, and of which kind.
type Root struct {
	FileSystem   string // as Linux calls it: "ext4", "erofs"
	Offset, Size int64  // bytes
}

// mountable are the file systems that guests' kernels have.
var mountable = map[string]bool{"ext4": true, "erofs": true}

// Find finds the root file system for guests of an architecture in the size bytes of r:
// in the partition of that number, 1 and on, or in the one that is meant when it is 0.
func Find(r io.ReaderAt, size int64, partition int, arch string) (Root, error) {
	d := disk{r, size}
	what, err := d.identify(0, size)
	if err != nil {
		return Root{}, err
	}
	if advice, ok := packed[what]; ok {
		return Root{}, fmt.Errorf("it is a %s image, guests read raw ones: %s", what, advice)
	}
	if mountable[what] {
		if partition != 0 {
			return Root{}, fmt.Errorf("partition %d: it has none, but one file system, %s: leave the number out", partition, what)
		}
		root := Root{what, 0, size}
		return root, d.sound(root)
	}
	parts, err := d.partitions()
	switch {
	case err != nil:
		return Root{}, err
	case len(parts) == 0 && what != "":
		return Root{}, fmt.Errorf("what is on it is %s: give one of ext4 or EROFS", what)
	case len(parts) == 0:
		return Root{}, errors.New("there is neither a file system that is known nor a table of partitions on it")
	}
	p, err := choose(parts, partition, arch)
	if err != nil {
		return Root{}, err
	}
	root := Root{p.what, p.offset, p.size}
	if err := d.sound(root); err != nil {
		return Root{}, fmt.Errorf("partition %d: %w", p.number, err)
	}
	return root, nil
}

// choose finds the partition that is meant.
func choose(parts []part, number int, arch string) (part, error) {
	var roots, usable []part
	for _, p := range parts {
		switch {
		case number != 0 && p.number == number && !mountable[p.what]:
			return p, fmt.Errorf("partition %d has %s: give one with ext4 or EROFS; there are %s", number, p.content(), list(parts))
		case number != 0 && p.number == number:
			return p, nil
		case mountable[p.what] && p.kind != "" && p.kind == rootType[arch]:
			roots = append(roots, p)
		}
		if mountable[p.what] {
			usable = append(usable, p)
		}
	}
	switch {
	case number != 0:
		return part{}, fmt.Errorf("it has no partition %d: there are %s", number, list(parts))
	case len(roots) == 1:
		return roots[0], nil
	case len(usable) == 1:
		return usable[0], nil
	case len(usable) == 0:
		return part{}, fmt.Errorf("none of its partitions has ext4 or EROFS: there are %s", list(parts))
	}
	return part{}, fmt.Errorf("say by its number behind a colon which partition is meant: there are %s", list(parts))
}

// list names partitions for people.
func list(parts []part) string {
	const most = 16
	var names []string
	for _, p := range parts[:min(len(parts), most)] {
		names = append(names, fmt.Sprintf("%d (%s, %d MiB)", p.number, p.content(), p.size>>20))
	}
	if len(parts) > most {
		names = append(names, fmt.Sprintf("%d more", len(parts)-most))
	}
	return strings.Join(names, ", ")
}
