package testkernel

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"time"

	"warder/boot/expand"
)

// Module is a kernel module that depends on others: names with commas between.
func Module(depends string) []byte {
	const ehdr, shdr = 64, 64
	info := []byte("license=GPL\x00depends=" + depends + "\x00name=test\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	return Concat(
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
			Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
			Shoff: ehdr, Ehsize: ehdr, Shentsize: shdr, Shnum: 3, Shstrndx: 2,
		},
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: ehdr + 3*shdr, Size: uint64(len(info))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: ehdr + 3*shdr + uint64(len(info)), Size: uint64(len(names))},
		info, names,
	)
}

// A File is a file of a package.
type File struct {
	Name string
	Data []byte
	Link string // target, for a symbolic link
	Hard bool   // Link is a hard link
}

// Deb is a Debian package. Its archives are compressed by method, unless that is
// empty.
func Deb(method expand.Method, control string, files ...File) []byte {
	suffix, ok := map[expand.Method]string{"": "", expand.Gzip: ".gz", expand.XZ: ".xz", expand.Zstd: ".zst"}[method]
	if !ok {
		panic("testkernel: no packages with " + method)
	}
	archive := func(files []File) []byte {
		b := tarball(files)
		if method != "" {
			b = Compress(method, b)
		}
		return b
	}
	b := []byte("!<arch>\n")
	b = appendMember(b, "debian-binary", []byte("2.0\n"))
	b = appendMember(b, "control.tar"+suffix, archive([]File{{Name: "control", Data: []byte(control)}}))
	return appendMember(b, "data.tar"+suffix, archive(files))
}

func appendMember(b []byte, name string, data []byte) []byte {
	b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, 0, 0, 0, 0o100644, len(data))
	b = append(b, data...)
	if len(data)%2 == 1 {
		b = append(b, '\n')
	}
	return b
}

func tarball(files []File) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: "./" + f.Name, Mode: 0o644, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, ModTime: time.Unix(1e9, 0)}
		switch {
		case f.Link != "" && f.Hard:
			h.Typeflag, h.Linkname = tar.TypeLink, f.Link
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		case path.Base(f.Name) == ".":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write(f.Data); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// KernelDeb is a package with a kernel for arch and two modules, one of which
// needs the other.
func KernelDeb(arch, release string) []byte {
	vmlinuz := BzImage(expand.Zstd, ELF())
	if arch == "arm64" {
		vmlinuz = Image()
	}
	modules := "lib/modules/" + release + "/"
	return Deb(expand.XZ,
		"Package: linux-image-"+release+"\nArchitecture: "+arch+"\nVersion: 6.0.0-1\n",
		File{Name: "boot/vmlinuz-" + release, Data: vmlinuz},
		File{Name: "boot/config-" + release, Data: []byte("CONFIG_TEST=y\n")},
		File{Name: "usr/share/doc/readme", Data: []byte("not wanted\n")},
		File{Name: modules + "modules.builtin", Data: []byte("kernel/drivers/acpi/button.ko\nkernel/fs/fuse/virtiofs.ko\n")},
		File{Name: modules + "kernel/drivers/virtio/virtio_mmio.ko.xz", Data: Compress(expand.XZ, Module(""))},
		File{Name: modules + "kernel/drivers/char/hw_random/virtio-rng.ko", Data: Module("rng-core")},
		File{Name: modules + "kernel/drivers/char/hw_random/rng-core.ko.zst", Data: Compress(expand.Zstd, Module(""))},
		File{Name: modules + "kernel/drivers/net/other.ko.xz", Data: Compress(expand.XZ, Module(""))},
	)
}
