package system

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SecretsDir is where commands find the secrets of their VM.
const SecretsDir = "/run/secrets"

// WriteSecrets puts secrets into a file system of memory that is not swapped out,
// where it can be helped, and that nobody writes to any more. Every command of the VM
// may read them, as each may ask the host for them.
func WriteSecrets(values map[string][]byte) error {
	if err := os.MkdirAll(SecretsDir, 0o755); err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := unix.Mount("tmpfs", SecretsDir, "tmpfs", flags, "mode=0755,noswap") // since Linux 6.4
	if err == unix.EINVAL {
		err = unix.Mount("tmpfs", SecretsDir, "tmpfs", flags, "mode=0755")
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", SecretsDir, err)
	}
	for name, value := range values {
		if err := os.WriteFile(filepath.Join(SecretsDir, filepath.Base(name)), value, 0o444); err != nil {
			return err
		}
	}
	return unix.Mount("", SecretsDir, "", unix.MS_REMOUNT|unix.MS_RDONLY|flags, "")
}
