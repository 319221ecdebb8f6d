package bundle

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"howett.net/plist"
)

// signAgain names the way to the commands that sign.
func (a *App) signAgain() string {
	return "sign inside out: mlxrank bundle --dry-run --app " + quoted(a.Path) + " prints the commands"
}

// checkSignatures looks whether all code is signed, and is what was signed.
// macOS kills a process that maps a page of code which is not.
func (a *App) checkSignatures(parts []part) Finding {
	f := Finding{Name: "signature"}
	count := 0
	look := func(file string, s *Slice) {
		count++
		if s.Signature == nil {
			f.Detail = append(f.Detail, file+" is not signed")
		} else if why := s.Signature.stale(s.data); why != "" {
			f.Detail = append(f.Detail, fmt.Sprintf("%s was changed after it was signed: %s", file, why))
		}
	}
	for _, s := range a.program.Slices {
		look(a.executable, s)
	}
	for _, p := range parts {
		look(p.file, p.slice)
	}
	if len(f.Detail) > 0 {
		f.Text, f.Remedy = "not in order", a.signAgain()
		return f
	}
	f.Text = fmt.Sprintf("%d of %d there and not stale (codesign --verify --deep --strict judges the certificates)", count, count)
	return f
}

// checkTeam compares who has signed the libraries with who has signed the app.
func (a *App) checkTeam(parts []part) Finding {
	f := Finding{Name: "team"}
	own := a.program.Arch(arm64)
	unsigned := func(p part) bool { return p.slice.Signature == nil }
	if own == nil || own.Signature == nil || slices.ContainsFunc(parts, unsigned) {
		f.Text, f.Remedy = "not compared: not all code is signed", "see signature above"
		return f
	}
	s := own.Signature
	off := s.Entitlements[noLibraryValidation] == true
	validates := (s.Runtime || s.LibraryValidation) && !off
	others := slices.DeleteFunc(slices.Clone(parts), func(p part) bool {
		return p.slice.Signature.Team == s.Team && p.slice.Signature.AdHoc == s.AdHoc
	})
	for _, p := range others {
		f.Detail = append(f.Detail, fmt.Sprintf("%s: %s", p.file, p.slice.Signature.signer()))
	}
	f.Text = fmt.Sprintf("%s, hardened runtime %s", s.signer(), onOff(s.Runtime))
	switch {
	case validates && s.Team == "":
		f.Text = fmt.Sprintf("the app is signed by %s, with the hardened runtime: macOS will not load the libraries, since it compares Team IDs", s.signer())
		f.Remedy = "sign with a certificate, or for work on this Mac without --options runtime"
	case validates && len(others) > 0:
		f.Text = fmt.Sprintf("the app is signed by %s, not all libraries are: library validation, a part of the hardened runtime, will not load them", s.signer())
		f.Remedy = a.signAgain() + "; the entitlement " + noLibraryValidation + " allows other teams, and weakens the app"
	case off && len(others) > 0:
		f.Detail = append(f.Detail, "they are loaded only by the entitlement "+noLibraryValidation+": sign them by the app's team instead")
	case len(others) > 0:
		f.Text = fmt.Sprintf("the app is signed by %s, not all libraries are: it runs without the hardened runtime only, and cannot be notarised", s.signer())
		f.Remedy = a.signAgain()
	case s.AdHoc:
		f.Detail = append(f.Detail, "good for work on this Mac; other Macs want a Developer ID and notarisation")
	case !s.Runtime:
		f.Detail = append(f.Detail, "notarisation asks for the hardened runtime")
	case off:
		f.Detail = append(f.Detail, "the entitlement "+noLibraryValidation+" is not needed for mlxrank")
	}
	return f
}

// signer says who has signed.
func (s *Signature) signer() string {
	switch {
	case s.AdHoc:
		return "no team (ad hoc)"
	case s.Team == "":
		return "a certificate without Team ID"
	}
	return "team " + s.Team
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// checkSandbox says what the App Sandbox lets the library do.
func (a *App) checkSandbox() Finding {
	f := Finding{Name: "sandbox", Text: "off"}
	own := a.program.Arch(arm64)
	if own == nil || own.Signature == nil || own.Signature.Entitlements["com.apple.security.app-sandbox"] != true {
		return f
	}
	f.Text = "on: models of the hub can be fetched (com.apple.security.network.client)"
	if own.Signature.Entitlements["com.apple.security.network.client"] != true {
		f.Text = "on, without com.apple.security.network.client: the model must be in the app, or in a folder that the user chose"
	}
	return f
}

// checkSeal looks whether the app's own signature covers mlxrank's files as
// they are: it lists all files of the app with their hashes.
func (a *App) checkSeal(parts []part) Finding {
	f := Finding{Name: "seal", Text: sealFile}
	fail := func(format string, args ...any) Finding {
		f.Text, f.Remedy = fmt.Sprintf(format, args...), a.signAgain()
		return f
	}
	data, err := a.readFile(sealFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fail("the app as a whole is not signed: %s is missing", sealFile)
	}
	if err != nil {
		return fail("%v", err)
	}
	var seal struct {
		Files map[string]any `plist:"files2"`
	}
	if _, err := plist.Unmarshal(data, &seal); err != nil {
		return fail("%s cannot be read: %v", sealFile, err)
	}
	if why := a.sealHolds(data); why != "" {
		return fail("%s", why)
	}
	for _, p := range parts {
		if why := sealsCode(seal.Files[strings.TrimPrefix(p.file, "Contents/")], p.slice.Signature); why != "" {
			return fail("%s %s: it was changed after the app was signed", p.file, why)
		}
	}
	for _, file := range []string{metallibFile, ownResources + "/" + noticesFile} {
		if !a.exists(file) {
			continue // which is a failure of its own
		}
		why, err := a.sealsData(seal.Files[strings.TrimPrefix(file, "Contents/")], file)
		if err != nil {
			return fail("%v", err)
		}
		if why != "" {
			return fail("%s %s: it was changed after the app was signed", file, why)
		}
	}
	return f
}

// sealHolds says what of the executable's signature does not match, "" if all
// does: it has the hashes of Info.plist and of the list of files.
func (a *App) sealHolds(seal []byte) string {
	info, err := a.readFile(infoFile)
	if err != nil {
		return err.Error()
	}
	for _, s := range a.program.Slices {
		if s.Signature == nil {
			return a.executable + " is not signed"
		}
		for _, part := range []struct {
			slot    int
			file    string
			content []byte
		}{{specialInfo, infoFile, info}, {specialSeal, sealFile, seal}} {
			same, known := s.Signature.seals(part.slot, part.content)
			if !known {
				return "the signature of " + a.executable + " says nothing of " + part.file + ": the file was signed, but not the app"
			}
			if !same {
				return part.file + " was changed after the app was signed"
			}
		}
	}
	return ""
}

// sealsCode compares the entry of the list with a library's signature.
func sealsCode(entry any, s *Signature) string {
	fields, _ := entry.(map[string]any)
	hash, _ := fields["cdhash"].([]byte)
	switch {
	case fields == nil:
		return "is not in the app's list"
	case s == nil:
		return "is not signed"
	case !slices.ContainsFunc(s.cdHashes(), func(own []byte) bool { return bytes.Equal(own, hash) }):
		return "is in the app's list with another signature"
	}
	return ""
}

// sealsData compares the entry of the list with a file.
func (a *App) sealsData(entry any, file string) (why string, err error) {
	fields, _ := entry.(map[string]any)
	hash, _ := fields["hash2"].([]byte)
	if fields == nil {
		return "is not in the app's list", nil
	}
	in, err := a.open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", err
	}
	if !bytes.Equal(sum.Sum(nil), hash) {
		return "is in the app's list with another hash", nil
	}
	return "", nil
}
