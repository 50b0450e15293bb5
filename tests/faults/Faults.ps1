<#
.SYNOPSIS
    Kills saves, fills their disk, and lets their system calls fail, in processes of their own; then lets them go on, and looks at what
    is there.
.DESCRIPTION
    The name of the model must hold nothing, the old model, or the new one, whole; the next save must give the same files as one that
    nobody disturbed, and nothing may be left beside it. What cannot be done here (no strace, no right to mount) is skipped by name.
    The seed is printed; -Seed repeats a run.
.EXAMPLE
    ./build.ps1 Faults
.EXAMPLE
    ./tests/faults/Faults.ps1 -Kills 1000 -Injections 0 -Fills 0
#>
[CmdletBinding()]
param(
    [int] $Kills = 50,
    [int] $Injections = 100,
    [int] $Fills = 5,

    # The bytes of the base, about.
    [long] $Size = 64MB,

    [int] $Seed = (Get-Random)
)

$ErrorActionPreference = 'Stop'
$root = Convert-Path "$PSScriptRoot/../.."
$random = [Random]::new($Seed)
$models = 0
$work = Join-Path ([IO.Path]::GetTempPath()) "unslothmerge-faults-$([guid]::NewGuid().ToString('N'))"
$null = New-Item $work -ItemType Directory
$pwsh = (Get-Process -Id $PID).Path
$host_ = if ((Split-Path $pwsh -Leaf) -like 'dotnet*') { @($pwsh, (Join-Path $PSHOME pwsh.dll)) } else { @($pwsh) }
Write-Host "Seed $Seed, in $work"

# A file of safetensors: F32 tensors of a name each, rows x columns, filled at random (small numbers).
function New-Tensor([string] $Path, [hashtable] $Shapes) {
    $offset = 0L
    $header = [ordered]@{}
    foreach ($name in $Shapes.Keys | Sort-Object) {
        $bytes = 4L * $Shapes[$name][0] * $Shapes[$name][1]
        $header[$name] = @{ dtype = 'F32'; shape = $Shapes[$name]; data_offsets = @($offset, ($offset + $bytes)) }
        $offset += $bytes
    }
    $text = [Text.Encoding]::UTF8.GetBytes(($header | ConvertTo-Json -Compress -Depth 5))
    $file = [IO.File]::Create($Path)
    $file.Write([BitConverter]::GetBytes([long]$text.Length))
    $file.Write($text)
    $bytes = [byte[]]::new($offset)
    $random.NextBytes($bytes)
    # An exponent of 0x3C gives about 0.01.
    for ($i = 3; $i -lt [Math]::Min($offset, 1MB); $i += 4) { $bytes[$i] = 0x3C }
    for ($at = 1MB; $at -lt $offset; $at += 1MB) { [Array]::Copy($bytes, 0, $bytes, $at, [Math]::Min(1MB, $offset - $at)) }
    $file.Write($bytes)
    $file.Dispose()
}

# A base of eight matrices and an adapter that changes half of them.
function New-Merge {
    $columns = 1024
    $rows = [int]($Size / 8 / 4 / $columns)
    $modules = 0..7 | ForEach-Object { "m$_" }
    $null = New-Item "$work/base", "$work/adapter" -ItemType Directory
    $shapes = @{}
    $modules | ForEach-Object { $shapes["$_.weight"] = @($rows, $columns) }
    New-Tensor "$work/base/model.safetensors" $shapes
    Set-Content "$work/base/config.json" '{"architectures": ["Tiny"], "model_type": "custom"}'
    $shapes = @{}
    $modules[0..3] | ForEach-Object {
        $shapes["base_model.model.$_.lora_A.weight"] = @(4, $columns)
        $shapes["base_model.model.$_.lora_B.weight"] = @($rows, 4)
    }
    New-Tensor "$work/adapter/adapter_model.safetensors" $shapes
    Set-Content "$work/adapter/adapter_config.json" '{"peft_type": "LORA", "r": 4, "lora_alpha": 4}'
}

# The ways to save that are killed: what follows Save-MergedModel, and whether an old model is there.
$ways = @(
    @{ Name = 'force'; More = '' }
    @{ Name = 'new'; More = '' }
    @{ Name = 'nosync'; More = '-NoSync' }
    @{ Name = '4bit'; More = '-Method merged_4bit' }
    @{ Name = 'parts'; More = '-Part 1/2'; Parts = $true }
)

# Saves the merge with a weight for the adapter; in parts, saves both and completes them.
function Get-SaveCommand([string] $Out, [int] $Weight = 1, [hashtable] $Way = $ways[0]) {
    $save = "Merge-LoraModel '$work/base' '$work/adapter' -Weight $Weight -WarningAction Ignore | " +
        "Save-MergedModel '$Out' $($Way.More) -MaxShardSize $([long]($Size / 8 + 4096)) -Force -WarningAction Ignore | Out-Null; "
    if ($Way.More -notlike '*4bit*') { $save = $save.Replace('-MaxShardSize', '-DType float32 -MaxShardSize') }
    $Way.Parts ? $save + $save.Replace('1/2', '2/2') + "Complete-MergedModel '$Out' -Force | Out-Null; " : $save
}

# Starts pwsh below another program, and gives the process once the module is imported.
function Start-Save([string] $Command, [string[]] $Below = @()) {
    $command = "`$ErrorActionPreference = 'Stop'; Import-Module '$root/UnslothMerge.psd1'; 'ready'; $Command"
    $all = $Below + $host_ + @('-NoProfile', '-NonInteractive', '-Command', $command)
    $start = [Diagnostics.ProcessStartInfo]::new($all[0], [string[]]$all[1..($all.Count - 1)])
    $start.RedirectStandardOutput = $start.RedirectStandardError = $true
    $process = [Diagnostics.Process]::Start($start)
    $null = $process.StandardOutput.ReadLine()
    $process | Add-Member Said ($process.StandardOutput.ReadToEndAsync(), $process.StandardError.ReadToEndAsync())
    $process
}

function Wait-Save($Process) {
    if (-not $Process.WaitForExit(120000)) { $Process.Kill($true); throw 'The save did not end within two minutes.' }
    [pscustomobject]@{ ExitCode = $Process.ExitCode; Text = ($Process.Said.Result -join "`n").Trim() }
}

# Every file of a model with its hash; nothing where there is no model. A staging directory inside is left out.
function Get-Model([string] $Path) {
    if (Test-Path $Path) {
        $files = Get-ChildItem -LiteralPath $Path -Recurse -File -Force | Where-Object FullName -NotMatch 'unslothmerge/|lost\+found'
        ($files.FullName | Sort-Object | ForEach-Object {
                "$([IO.Path]::GetRelativePath($Path, $_)) $((Get-FileHash -LiteralPath $_).Hash)"
            }) -join "`n"
    }
}

function Assert-Whole([string] $Path, [string[]] $Allowed, [string] $When) {
    $model = Get-Model $Path
    if ($model -and $model -notin $Allowed) { throw "$When, '$Path' holds neither model (seed $Seed):`n$model" }
}

function Assert-Right([string] $Path, [int] $Weight, [string] $When) {
    $failed = Merge-LoraModel "$work/base" "$work/adapter" -Weight $Weight | Test-MergedModel $Path | Where-Object -Not Passed
    if ($failed) { throw "$When, the model is not what it should be (seed $Seed): $($failed | Out-String)" }
}

# The same save once more, which nothing disturbs, and a look at what it gave.
function Assert-GoesOn([string] $Path, [string] $Expected, [string] $When, [int] $Weight = 1, [hashtable] $Way = $ways[0]) {
    try { & ([scriptblock]::Create((Get-SaveCommand $Path $Weight $Way))) }
    catch { throw "$When, the next save failed (seed $Seed): $_" }
    if ((Get-Model $Path) -ne $Expected) { throw "$When, the next save gave something else (seed $Seed)." }
    $left = Get-ChildItem (Split-Path $Path) -Force | Where-Object Name -NotIn (Split-Path $Path -Leaf), 'lost+found'
    if ($left) { throw "$When, the next save left '$left' (seed $Seed)." }
    Assert-Right $Path $Weight $When
}

try {
    Import-Module "$root/UnslothMerge.psd1"
    New-Merge
    $ways = @($ways) | Select-Object -First ([Math]::Max(1, $Kills))
    foreach ($way in $ways) {
        # What saves give that nobody disturbs: with the weights 1 and 2 for the adapter, in the place of each other.
        $way.Out = (New-Item "$work/$($way.Name)" -ItemType Directory).FullName + '/out'
        $way.Weight = 1
        $way.Model = @{}
        foreach ($weight in 2, 1, 2) {
            if ($way.Name -eq 'new') { Remove-Item $way.Out -Recurse -ErrorAction Ignore }
            & ([scriptblock]::Create((Get-SaveCommand $way.Out $weight $way)))
            $way.Model[$weight] = Get-Model $way.Out
        }
        if (-not $way.Model[1] -or $way.Model[1] -eq $way.Model[2]) { throw "Both models of $($way.Name) are equal." }
        $check = Merge-LoraModel "$work/base" "$work/adapter" -Weight 2 | Test-MergedModel $way.Out -Full -Quiet
        if (-not $check) { throw "The model of $($way.Name) is not what it should be." }
    }

    for ($i = 1; $i -le $Kills; $i++) {
        $way = $ways[($i - 1) % $ways.Count]
        if ($way.Name -eq 'new') { Remove-Item $way.Out -Recurse -ErrorAction Ignore }

        # Several saves, of which the first is slow; parts of another weight would be refused.
        $weights = $way.Parts -or $way.Name -eq 'new' ? @($way.Weight) : @($way.Weight, (3 - $way.Weight), $way.Weight)
        $command = -join ($weights | ForEach-Object { Get-SaveCommand $way.Out $_ $way })
        $process = Start-Save $command
        if (-not $way.Time) {
            # How long it takes, once.
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $end = Wait-Save $process
            if ($end.ExitCode) { throw $end.Text }
            $way.Time = $clock.ElapsedMilliseconds
            if ($way.Name -eq 'new') { Remove-Item $way.Out -Recurse }
            $process = Start-Save $command
        }

        Start-Sleep -Milliseconds $random.Next($way.Time)
        $process.Kill()
        $process.WaitForExit()
        $when = "After kill $i ($($way.Name))"
        Assert-Whole $way.Out $way.Model.Values $when
        if ($way.Name -ne 'new' -and -not (Test-Path $way.Out)) { throw "$when, there is no model (seed $Seed)." }
        if ($i % 2 -eq 0 -or $i -gt $Kills - $ways.Count) {
            Assert-GoesOn $way.Out $way.Model[$way.Weight] $when $way.Weight $way
            $way.Weight = 3 - $way.Weight
            $models++
        }
        elseif ($model = Get-Model $way.Out) {
            Assert-Right $way.Out $way.Model.Keys.Where({ $way.Model[$_] -eq $model })[0] $when
        }
        if ($i % 100 -eq 0) { Write-Host "$i kills, $models models" }
    }
    if ($Kills) {
        Write-Host "$Kills kills: the name always held a whole model, tested, and the next save gave the same files ($models times)."
    }

    $place = Split-Path $ways[0].Out
    $out = $ways[0].Out
    $old, $new = $ways[0].Model[2], $ways[0].Model[1]
    $strace = Get-Command strace -CommandType Application -ErrorAction Ignore
    if (-not $strace) { Write-Host 'Skipped: injected errors, there is no strace.' }
    $write = 'EIO', 'ENOSPC', 'EDQUOT', 'EFBIG', 'EINTR'
    $name = 'EIO', 'ENOSPC', 'EDQUOT', 'EACCES', 'EPERM', 'EROFS'
    $errors = @{
        pwrite64 = $write; fsync = $write; ftruncate = $write; fallocate = $write; pread64 = 'EIO', 'EINTR', 'ESTALE'
        'rename,renameat2' = $name; mkdir = $name; unlink = $name; rmdir = $name
        openat = $name + 'EMFILE', 'ENFILE', 'ESTALE', 'ENOMEM'; statx = 'EIO', 'EACCES', 'ESTALE'; getdents64 = 'EIO', 'ESTALE'
        flock = 'ENOLCK', 'EINTR', 'EIO'; io_setup = 'ENOMEM', 'EAGAIN'; io_submit = 'EIO', 'EAGAIN', 'EBADF', 'EINVAL'
        io_getevents = 'EIO', 'EINTR', 'EINVAL'
    }
    for ($i = 1; $strace -and $i -le $Injections; $i++) {
        $call = @($errors.Keys)[$random.Next($errors.Count)]
        $error_ = $errors[$call][$random.Next($errors[$call].Count)]
        $when = $random.Next(1, 40)
        # Only where the module writes: the runtime has files of its own.
        $below = 'strace', '-f', '-qq', '-o', '/dev/null', '-P', $place, '-P', $out, '-P', "$place/.out.unslothmerge",
            '-P', "$place/.out.unslothmerge/model", '-P', "$place/.out.unslothmerge/lock", '-P', "$work/base/model.safetensors",
            '-P', "$work/adapter/adapter_model.safetensors"
        foreach ($shard in 1..8) {
            $below += '-P', ('{0}/.out.unslothmerge/model/model-{1:d5}-of-00008.safetensors' -f $place, $shard)
        }
        # These name no file, and the runtime does not use them.
        if ($call -like 'io_*') { $below = $below[0..4] }
        $below += '-e', "trace=$call", '-e', "inject=${call}:error=${error_}:when=$when"
        $end = Wait-Save (Start-Save (Get-SaveCommand $out) $below)
        if ($end.Text -match 'ptrace') { Write-Host 'Skipped: injected errors, strace may not watch a process.'; break }
        Assert-Whole $out $old, $new "After $error_ from $call $when"
        if ($end.ExitCode -and $end.Text -match '   at UnslothMerge|Unexpected error|it is a fault') {
            throw "$error_ from $call $when is a raw exception (seed $Seed): $($end.Text)"
        }
        if ($i % 4 -eq 0) { Assert-GoesOn $out $new "After $error_ from $call $when" }
    }
    if ($strace -and $Injections -and $end.Text -notmatch 'ptrace') {
        Assert-GoesOn $out $new 'After injected errors'
        Write-Host "$Injections injected errors: the name always held a whole model, and no error was raw."
    }

    for ($i = 1; $i -le $Fills; $i++) {
        # A file system that has room for a part of the model, and later for all of it.
        $null = New-Item "$work/disk" -ItemType Directory -Force
        & truncate -s ([long]($Size * 2 + 64MB)) "$work/disk.img"
        & mkfs.ext4 -q -F -m 0 "$work/disk.img" 2>$null
        & mount -o loop "$work/disk.img" "$work/disk" 2>$null
        if ($LASTEXITCODE) { Write-Host 'Skipped: full disks, nothing can be mounted.'; break }
        try {
            $ballast = "$work/disk/ballast"
            $free = [IO.DriveInfo]::new("$work/disk").AvailableFreeSpace
            & fallocate -l ([long]($free - $Size * $random.NextDouble())) $ballast
            # Inside a mount point files are moved one by one; below it the directory is renamed.
            $target = "$work/disk/out"
            $end = Wait-Save (Start-Save (Get-SaveCommand $target))
            if (-not $end.ExitCode) { throw "A save fitted on a disk that is too small (seed $Seed)." }
            if (Test-Path $target) { throw "A save that did not fit left '$target' (seed $Seed)." }
            Remove-Item $ballast
            $end = Wait-Save (Start-Save (Get-SaveCommand $target))
            if ($end.ExitCode) { throw "After a full disk, the next save failed (seed $Seed): $($end.Text)" }
        }
        finally { & umount "$work/disk" }
        if ($i -eq $Fills) { Write-Host "$Fills full disks: nothing was left, and the next save gave the model." }
    }
}
finally { Remove-Item -LiteralPath $work -Recurse -Force }
