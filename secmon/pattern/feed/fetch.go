package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// fetcher gets the files of a repository: over HTTP, or from a directory.
type fetcher struct {
	ctx    context.Context
	client *http.Client
}

// DownloadFile implements the interface of package fetcher of go-tuf: a file of
// at most so many bytes.
func (f *fetcher) DownloadFile(from string, most int64, _ time.Duration) ([]byte, error) {
	// The path of a file is meant as it is written.
	if path, ok := strings.CutPrefix(from, "file://"); ok {
		file, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: from}
		}
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return bounded(file, most, from)
	}
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: resp.StatusCode, URL: from}
	}
	return bounded(resp.Body, most, from)
}

func bounded(r io.Reader, most int64, from string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	if int64(len(text)) > most {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s has more than the %d bytes that it may have", from, most)}
	}
	return text, nil
}
