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

// signAgain describes how to get the commands that sign.
func (a *App) signAgain() string {
	return "sign from the inside out: mlxrank bundle --dry-run --app " + quoted(a.Path) + " prints the commands"
}

// checkSignatures checks that all code is signed and unchanged since. macOS kills a
// process that maps a changed page of code.
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
		f.Text, f.Remedy = "missing or invalid", a.signAgain()
		return f
	}
	f.Text = fmt.Sprintf("%d of %d present and valid; codesign --verify --deep --strict checks the certificates", count, count)
	return f
}

// checkTeam compares the signers of the libraries with the signer of the app.
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
		f.Text = fmt.Sprintf("the app is signed by %s, with the hardened runtime: macOS will not load the libraries, because it compares Team IDs", s.signer())
		f.Remedy = "sign with a certificate, or without --options runtime for this Mac only"
	case validates && len(others) > 0:
		f.Text = fmt.Sprintf("the app is signed by %s, some libraries are not: the library validation of the hardened runtime will not load them", s.signer())
		f.Remedy = a.signAgain() + "; the entitlement " + noLibraryValidation + " would allow other teams, but weakens the app"
	case off && len(others) > 0:
		f.Detail = append(f.Detail, "they load only because of the entitlement "+noLibraryValidation+": sign them with the app's team instead")
	case len(others) > 0:
		f.Text = fmt.Sprintf("the app is signed by %s, some libraries are not: it runs only without the hardened runtime and cannot be notarised", s.signer())
		f.Remedy = a.signAgain()
	case s.AdHoc:
		f.Detail = append(f.Detail, "valid on this Mac; other Macs need a Developer ID and notarisation")
	case !s.Runtime:
		f.Detail = append(f.Detail, "notarisation requires the hardened runtime")
	case off:
		f.Detail = append(f.Detail, "mlxrank does not need the entitlement "+noLibraryValidation)
	}
	return f
}

// signer describes the signer.
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

// checkSandbox reports what the App Sandbox allows the library.
func (a *App) checkSandbox() Finding {
	f := Finding{Name: "sandbox", Text: "off"}
	own := a.program.Arch(arm64)
	if own == nil || own.Signature == nil || own.Signature.Entitlements["com.apple.security.app-sandbox"] != true {
		return f
	}
	f.Text = "on: the app can download models of the hub (com.apple.security.network.client)"
	if own.Signature.Entitlements["com.apple.security.network.client"] != true {
		f.Text = "on, without com.apple.security.network.client: the model must be in the app, or in a folder that the user selects"
	}
	return f
}

// checkSeal checks that the app's signature, which lists all files of the app with
// their hashes, matches mlxrank's files.
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
			continue // another check reports it
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

// sealHolds compares the hashes of Info.plist and of the list of files in the
// executable's signature. It describes the first difference, "" if there is none.
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
				return "the signature of " + a.executable + " does not cover " + part.file + ": the file was signed, but not the app"
			}
			if !same {
				return part.file + " was changed after the app was signed"
			}
		}
	}
	return ""
}

// sealsCode compares an entry of the app's list with the signature of a library.
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

// sealsData compares an entry of the app's list with a file.
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
